"""The device thread: calls in, results out. The only thread that touches the models."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


class Device:
    """One thread that owns the device. Job threads hand it calls, which run whole, in order of arrival, grad-free."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._busy_since: float | None = None
        self.busy_total = 0.0  # seconds of finished calls, since the start

    def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` on the device thread and return, or raise, what it does."""
        return self._thread.submit(self._timed, call).result()

    def busy_seconds(self) -> float:
        """How long the present call has been running, in seconds; 0 when idle. What the heartbeat watches."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _timed(self, call: Callable[[], T]) -> T:
        started = self._busy_since = time.monotonic()
        try:
            with torch.inference_mode():
                return call()
        finally:
            self._busy_since = None
            self.busy_total += time.monotonic() - started
