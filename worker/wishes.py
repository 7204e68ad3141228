"""What is asked of the jobs in hand, to cancel or to wait: read for all of them at once, by whoever looks first.

After a tick every job that took part looks, at the same moment; one question answers them all. While the database is
away nobody waits for it: one thread tries now and then, and the jobs go on.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

import structlog
from sqlalchemy import Engine

from common.db import check_database
from common.errors import Unavailable
from common.jobs import lease
from common.jobs.claim import Claim

log = structlog.get_logger()

FRESH_SECONDS = 0.05  # an answer may be so old for those who did not ask for it
RETRY_SECONDS = 3.0  # between two tries at a database that is away


class Outage:
    """Whether the database is away, as far as the jobs in hand know: one of them finds out, the others need not.

    Who looks while it is away has a thread try it, at most every RETRY_SECONDS, and waits for nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._began_at: float | None = None
        self._tried_at = 0.0
        self._passed_over = 0  # writes and questions

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Around what asks the database. Raises Unavailable: at once where it is known to be away."""
        if self._goes_on():
            raise Unavailable("the database does not answer")
        try:
            yield
        except Unavailable:
            self._begin()
            raise

    def _begin(self) -> None:
        with self._lock:
            self._tried_at = time.monotonic()
            if self._began_at is not None:
                return
            self._began_at, self._passed_over = self._tried_at, 0
        log.warning("progress not saved: the database does not answer")

    def _goes_on(self) -> bool:
        with self._lock:
            if self._began_at is None:
                return False
            self._passed_over += 1
            if time.monotonic() - self._tried_at >= RETRY_SECONDS:
                self._tried_at = time.monotonic()
                threading.Thread(target=self._try, name="database", daemon=True).start()
            return True

    def _try(self) -> None:
        try:
            check_database(self._engine)
        except Unavailable:
            return
        with self._lock:
            began_at, self._began_at = self._began_at, None
        if began_at is not None:  # else the try before was slow, and this one came too late
            seconds = round(time.monotonic() - began_at, 1)
            log.warning("progress is saved again: the database answers", seconds=seconds, missed=self._passed_over)


class Wishes:
    """Of the claims that ``in_hand`` holds, by token, at the moment of each question."""

    def __init__(self, engine: Engine, in_hand: Mapping[UUID, Claim]) -> None:
        self.outage = Outage(engine)
        self._engine = engine
        self._in_hand = in_hand
        self._asking = threading.Lock()
        self._asked_at = 0.0
        self._unread: set[UUID] = set()  # tokens that the answer speaks of to jobs that have not seen it
        self._answer: lease.Wishes | None = None  # None: there was none

    def heed(self, claim: Claim) -> bool:
        """Whether the job is to be canceled, as of now. Nobody is given the same answer twice.

        Raises as lease.heed() does, and Unavailable.
        """
        since = time.monotonic()
        with self._asking:
            if claim.token not in self._unread or since - self._asked_at > FRESH_SECONDS:
                self._ask(claim)
            self._unread.discard(claim.token)
            answer = self._answer
        if answer is None:
            raise Unavailable("the database does not answer")
        return lease.heed(claim, answer)

    def _ask(self, claim: Claim) -> None:
        claims = {claim.token: claim} | dict(self._in_hand)
        self._asked_at, self._unread = time.monotonic(), set(claims)
        try:
            with self.outage.noticed():
                self._answer = lease.read_wishes(self._engine, claims.values())
        except Unavailable:
            self._answer, self._asked_at = None, time.monotonic()  # the others are not to wait as long again
