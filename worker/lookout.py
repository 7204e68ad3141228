"""Idle look-ups: every 10 to 15 seconds a free seat looks for a job by itself, for a message is but a doorbell.

So a job waits no longer than that for a broker that lost its message, or is not there at all.
"""

import random
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog

from worker.tasks import work
from worker.workshop import Workshop

log = structlog.get_logger()

LOOK_SECONDS = (10.0, 15.0)  # spread, so that many workers do not ask at once

Submit = Callable[[Callable[[], None]], object]


class Lookout:
    """A thread that sends a seat to look. ``submit`` has one of the worker's seats call a function."""

    def __init__(self, workshop: Workshop, submit: Submit, seconds: tuple[float, float] = LOOK_SECONDS) -> None:
        self._workshop = workshop
        self._submit = submit
        self._seconds = seconds
        self._thread = threading.Thread(target=self._look_on, name="lookout", daemon=True)

    def start(self) -> None:
        """Look now, for what waited while there was no worker, and then now and then, until the worker drains."""
        self._thread.start()

    def _look_on(self) -> None:
        while not self._workshop.draining.is_set():
            try:
                self._send()
            except Exception:  # a thread that ended in silence would never look again
                log.exception("nobody was sent to look")
            self._workshop.draining.wait(random.uniform(*self._seconds))  # noqa: S311 - no secret

    def _send(self) -> None:
        """Have a free seat look, if there is one."""
        if len(self._workshop.holds) < self._workshop.seats and not self._workshop.draining.is_set():
            with suppress(RuntimeError):  # a pool that is being shut down takes nothing; who claimed goes on
                self._submit(self._look)

    def _look(self) -> None:
        """In a seat. Where there is one job there may be more: the next free seat looks too."""
        try:
            work(self._workshop, on_claim=self._send)
        except Exception:  # which the pool would keep to itself
            log.exception("a look ended early")
