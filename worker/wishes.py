"""What is asked of the jobs in hand, to cancel or to wait: read for all of them at once, by whoever looks first.

After a tick every job that took part looks, at the same moment; one question answers them all.
"""

import threading
import time
from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Engine

from common.errors import Unavailable
from common.jobs import lease
from common.jobs.claim import Claim

FRESH_SECONDS = 0.05  # an answer may be so old for those who did not ask for it


class Wishes:
    """Of the claims that ``in_hand`` holds, by token, at the moment of each question."""

    def __init__(self, engine: Engine, in_hand: Mapping[UUID, Claim]) -> None:
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
            self._answer = lease.read_wishes(self._engine, claims.values())
        except Unavailable:
            self._answer, self._asked_at = None, time.monotonic()  # the others are not to wait as long again
