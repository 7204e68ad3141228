"""The circuit breaker: how attempts ended in, whether the worker may claim another job out. Touches nothing outside."""

import threading
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

import structlog

from common.errors import KilnError, OutOfDeviceMemory
from common.jobs.claim import Claim

log = structlog.get_logger()

REMEMBERED = 5  # attempts
TOO_MANY = 4  # of them failed, each with another job: then it is the worker, not the jobs
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 300.0  # seconds until a job is tried; doubled by each try that fails


class Breaker:
    """Closed, every claim is allowed. Open, one job is tried at a time, and its success closes it.

    Owners who have not just failed are tried first, and at once: what one of them asks for may be at fault. Only where
    theirs fails too, or nobody else waits, there is a pause before each try.

    One job's failures count as one, however often it is tried. What is the job's own fault does not count, nor do
    failures of an owner while those of others go well: whoever asks for the impossible must not stop a worker for
    everybody.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.reason = ""  # why little or nothing is claimed; for people of all owners, so it names no job
        self.on_change: Callable[[], None] = lambda: None
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: deque[Claim | None] = deque(maxlen=REMEMBERED)  # the failed one, or None for a success
        self._pause = FIRST_PAUSE
        self._shut_until: float | None = None
        self._others_go = False  # nobody has failed since it opened whose job was tried
        self._trying = False
        self._at_fault: dict[str, float] = {}  # owners, and until when: another one's job went well after theirs failed
        self._fits = 0  # pixels of the largest picture that was painted

    def allows(self) -> bool:
        """Whether a job may be claimed. Of an open breaker it is one try: say how it ended, or that it was unused()."""
        with self._lock:
            if self._shut_until is None:
                return True
            if self._trying or not (self._others_go or self._clock() >= self._shut_until):
                return False
            self._trying = True
            return True

    @property
    def avoid(self) -> set[str]:
        """Whose jobs are not to be tried as long as others wait."""
        with self._lock:
            if self._shut_until is None:
                return set()
            now = self._clock()
            return self._failing() | {owner for owner, until in self._at_fault.items() if now < until}

    @property
    def waited(self) -> bool:
        """Whether theirs may be tried as well, where nobody else waits."""
        with self._lock:
            return self._shut_until is None or self._clock() >= self._shut_until

    def unused(self) -> None:
        """Nothing was claimed, or what was claimed tells nothing of the worker."""
        with self._lock:
            self._trying = False

    def succeeded(self, claim: Claim) -> None:
        """An attempt ended well."""
        with self._lock:
            self._fits = max(self._fits, _pixels(claim))
            self._at_fault.pop(claim.owner, None)
            self._trying = False
            self._latest.append(None)
            if self._shut_until is None:
                return
            until = self._clock() + LONGEST_PAUSE
            self._at_fault |= dict.fromkeys(self._failing() - {claim.owner}, until)
            self._shut_until, self._pause, self.reason = None, FIRST_PAUSE, ""
            self._latest.clear()
        log.info("a job succeeded: jobs are claimed again")
        self.on_change()

    def failed(self, claim: Claim, error: KilnError) -> None:
        """An attempt ended with ``error``."""
        if self._is_its_own_fault(claim, error):
            self.unused()
            return
        with self._lock:
            self._latest.append(claim)
            tried, self._trying = self._trying, False
            count = len({one.job_id for one in self._latest if one})
            if not tried and (self._shut_until is not None or count < TOO_MANY):
                return
            pause = self._open(tried)
            self.reason = (
                f"{sum(one is not None for one in self._latest)} of the last {len(self._latest)} attempts failed, "
                f"the latest with {error.code}: one job is tried in {pause:.0f} s"
            )
        log.error("too many attempts failed: nothing is claimed", reason=self.reason)
        self.on_change()

    def _is_its_own_fault(self, claim: Claim, error: KilnError) -> bool:
        if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:  # the request's, says the glossary
            return True
        if isinstance(error, OutOfDeviceMemory) and 0 < self._fits < _pixels(claim):
            return True
        with self._lock:
            return self._shut_until is None and self._clock() < self._at_fault.get(claim.owner, 0)

    def _failing(self) -> set[str]:
        return {one.owner for one in self._latest if one}

    def _open(self, tried: bool) -> float:
        now = self._clock()
        waited = tried and self._shut_until is not None and now >= self._shut_until
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if waited else FIRST_PAUSE
        self._shut_until = now + self._pause
        self._others_go = not tried
        return self._pause


def _pixels(claim: Claim) -> int:
    return claim.spec.width * claim.spec.height
