"""Which device and number format there are; and the device thread, calls in, results out. Of libraries, torch alone."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from common.errors import ModelNotLoadable

T = TypeVar("T")


def pick_device(setting: str) -> torch.device:
    """The device that KILN_DEVICE names; ``auto``: CUDA, else Apple's MPS, else the CPU.

    Raises ModelNotLoadable when this machine, or this build of torch, has no such device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if setting == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise ModelNotLoadable(
            f"there is no device {setting!r}; KILN_DEVICE is auto, cpu, cuda, cuda:N or mps"
        ) from error
    there = {"cpu": True, "mps": mps, "cuda": cuda and (device.index or 0) < torch.cuda.device_count()}
    if not there.get(device.type, False):
        raise ModelNotLoadable(
            f"KILN_DEVICE asks for {setting}, and torch {torch.__version__} sees no such device here"
        )
    return device


def pick_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The number format that KILN_DTYPE names; ``auto``: float16 on CUDA, float32 elsewhere."""
    if setting == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[setting]


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
