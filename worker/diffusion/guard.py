"""Tries on a device in; what they give, or that the device is lost, out. Knows for good when it is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import structlog

from common.errors import DeviceLost, Interrupted, KilnError
from worker.diffusion import faults
from worker.diffusion.faults import Failed

log = structlog.get_logger()

T = TypeVar("T")


class Guard:
    """What stands between a device and those who use it. A device that failed for good is lost, and never tried again.

    ``probe`` raises where the device does nothing more. ``stop`` is called as the device is lost, with the reason;
    ``on_loss`` after that, in a thread of its own.
    """

    def __init__(self, probe: Callable[[], None], stop: Callable[[str], None]) -> None:
        self.lost = ""  # why the device is of no more use to this process; for people of all owners: it names no job
        self.busy_since: float | None = None  # when the present try began: several in a row are no stall
        self.on_loss: Callable[[], None] = lambda: None
        self._probe = probe
        self._stop = stop
        self._losing = threading.Lock()

    def attempt(self, call: Callable[[], T]) -> T | Failed[T]:
        """Try something on the device: once more where memory ran out, when all is free that can be.

        Raises DeviceLost where it turns out that the device is.
        """
        outcome = self._try(call)
        if isinstance(outcome, Failed) and outcome.of_memory:
            freed = self._try(faults.free_memory)
            outcome = freed if isinstance(freed, Failed) else self._try(call)
        if isinstance(outcome, Failed):
            self._judge(outcome.error)
        return outcome

    @contextmanager
    def reading(self) -> Iterator[None]:
        """For threads that copy from or to the device: there, too, an error may say that it is lost."""
        try:
            yield
        except (KilnError, Interrupted):
            raise
        except Exception as error:
            self._judge(error)
            raise

    def lose(self, reason: str) -> DeviceLost:
        """Give the device up."""
        with self._losing:
            first, self.lost = not self.lost, self.lost or reason
        if first:
            log.error("the device is lost", reason=reason)
            self._stop(reason)
            with suppress(RuntimeError):  # no thread to be had: the heartbeat notices, too
                threading.Thread(target=self.on_loss, name="loss", daemon=True).start()
        return DeviceLost(self.lost)

    def _try(self, call: Callable[[], T]) -> T | Failed[Any]:
        self.busy_since = time.monotonic()
        return faults.attempt(call)

    def _judge(self, error: BaseException) -> None:
        """Raise DeviceLost where it was the device that failed: the error says so, or the device does nothing more."""
        if self.lost or isinstance(error, DeviceLost):
            raise DeviceLost(self.lost)
        if fatal := faults.find_fatal(error):
            raise self.lose(str(fatal).strip().partition("\n")[0])
        if not faults.is_out_of_memory(error) and isinstance(faults.attempt(self._probe), Failed):
            raise self.lose(f"it does nothing more since {type(error).__name__}")
