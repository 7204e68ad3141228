"""The circuit breaker: how attempts ended in, whether the worker may claim another job out. Touches nothing outside."""

import threading
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from uuid import UUID

import structlog

from common.errors import KilnError

log = structlog.get_logger()

REMEMBERED = 5  # attempts
TOO_MANY = 4  # of them failed, each with another job: then it is the worker, not the jobs
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 300.0  # seconds until one job is tried; doubled by each try that fails


class Breaker:
    """Closed, every claim is allowed. Open, none is; after a pause one job is tried, and its success closes it.

    One job's failures count as one, however often it is tried, and what is the job's own fault does not count:
    whoever asks for the impossible must not stop a worker for everybody.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.reason = ""  # why nothing is claimed; for people of all owners, so it names no job
        self.on_change: Callable[[], None] = lambda: None
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: deque[UUID | None] = deque(maxlen=REMEMBERED)  # the failed job, or None for a success
        self._pause = FIRST_PAUSE
        self._shut_until: float | None = None
        self._trying = False

    def allows(self) -> bool:
        """Whether a job may be claimed. Of an open breaker it is one try: say how it ended, or that it was unused()."""
        with self._lock:
            if self._shut_until is None:
                return True
            if self._trying or self._clock() < self._shut_until:
                return False
            self._trying = True
            return True

    def unused(self) -> None:
        """Nothing was claimed, or what was claimed tells nothing of the worker."""
        with self._lock:
            self._trying = False

    def succeeded(self) -> None:
        """An attempt ended well."""
        with self._lock:
            self._trying = False
            self._latest.append(None)
            if self._shut_until is None:
                return
            self._shut_until, self._pause, self.reason = None, FIRST_PAUSE, ""
            self._latest.clear()
        log.info("a job succeeded: jobs are claimed again")
        self.on_change()

    def failed(self, job_id: UUID, error: KilnError) -> None:
        """An attempt at a job ended with ``error``."""
        if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:  # the request's fault, says the glossary
            self.unused()
            return
        with self._lock:
            self._latest.append(job_id)
            tried, self._trying = self._trying, False
            count = len({job for job in self._latest if job is not None})
            if not tried and (self._shut_until is not None or count < TOO_MANY):
                return
            pause = self._open(tried)
            self.reason = (
                f"{sum(job is not None for job in self._latest)} of the last {len(self._latest)} attempts failed, "
                f"the latest with {error.code}: one job is tried in {pause:.0f} s"
            )
        log.error("too many attempts failed: nothing is claimed", reason=self.reason)
        self.on_change()

    def _open(self, again: bool) -> float:
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if again else FIRST_PAUSE
        self._shut_until = self._clock() + self._pause
        return self._pause
