"""What the specification says of every job, written down step by step without a look at the database."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import Engine

from common.errors import LeaseLost
from common.jobs.charge import EXCUSES
from common.jobs.claim import Claim
from common.jobs.read import Job
from common.jobs.state import TERMINAL, Status
from common.jobs.sweep import return_expired

MAX_FAILURES = 3


@dataclass
class Expected:
    """One job as it ought to stand. ``path`` is every state it was in; ``token`` that of the one who holds it."""

    key: str | None = None
    fingerprint: str = "f"
    deadline: bool = False
    status: Status = Status.QUEUED
    token: UUID | None = None
    attempt: int = 0
    failures: int = 0
    excused: int = 0
    worker: str = ""  # who had it last
    started: int = 0  # when it was claimed last: a number that only grows
    lost_by: list[str] = field(default_factory=list)  # whose silence was charged and not taken back
    lost: int = 0  # when it was last
    done: int = 0
    cancel: bool = False
    object_keys: list[str] = field(default_factory=list)
    path: list[Status] = field(default_factory=lambda: [Status.QUEUED])
    final: Job | None = None

    def become(self, status: Status) -> None:
        self.status = status
        self.path.append(status)

    def end(self, status: Status) -> None:
        self.become(status)
        self.token = None

    def charge(self) -> None:
        self.failures += 1
        used_up = self.failures >= MAX_FAILURES
        self.end(Status.CANCELED if self.cancel else Status.FAILED if used_up else Status.QUEUED)

    def fail(self) -> None:
        self.failures += 1
        self.end(Status.FAILED)

    def excuse(self) -> None:
        """Uncharged, and counted; as any failure where it was so too often."""
        if self.excused >= EXCUSES:
            return self.charge()
        self.excused += 1
        return self.end(Status.CANCELED if self.cancel else Status.QUEUED)

    def lose(self, now: int, *, beside_suspect: bool) -> None:
        """Its worker was silent for a lease."""
        if beside_suspect and not self.failures and self.excused < EXCUSES:
            return self.excuse()
        self.lost_by.append(self.worker)
        self.lost = now
        return self.charge()

    def is_suspect_beside(self, other: "Expected") -> bool:
        """Whether it failed before, and one worker had both in hand: has this one still, or lost it since then."""
        if self.status is Status.RUNNING and self.worker == other.worker:
            return self.failures > 0
        return self.failures > 1 and other.worker in self.lost_by and self.lost > other.started

    def hear_of(self, worker: str) -> None:
        """That worker was cut off, and is well."""
        if self.status in TERMINAL or self.excused >= EXCUSES:
            return
        times = self.lost_by.count(worker)
        self.failures, self.excused = self.failures - times, self.excused + times
        self.lost_by = [each for each in self.lost_by if each != worker]


class Table(RuleBasedStateMachine):
    """All jobs as they ought to stand, and every claim ever given. The rules of user, workers and clock change it.

    ``tally`` counts the steps, and the writes that were let through and refused, over all examples.
    """

    def __init__(self, engine: Engine, tally: Counter[str]) -> None:
        super().__init__()
        self.engine = engine
        self.tally = tally
        self.looks = 0
        self.now = count(1)
        self.jobs: dict[UUID, Expected] = {}
        self.claims: list[Claim] = []  # every claim ever given, stale ones and those of deleted jobs too

    def within(self, status: Status) -> list[Expected]:
        return [expected for expected in self.jobs.values() if expected.status is status]

    def pick_job(self, data: st.DataObject) -> UUID:
        return data.draw(st.sampled_from(sorted(self.jobs)))

    def pick(self, data: st.DataObject) -> tuple[Claim, Expected]:
        """Half the time a claim that stands, else any ever given; and its job, or one nobody holds if that is gone."""
        standing = [each for each in self.claims if self.holds(each)]
        taken = data.draw(st.sampled_from((standing if data.draw(st.booleans()) else None) or self.claims))
        return taken, self.jobs.get(taken.job_id, Expected())

    def holds(self, taken: Claim) -> bool:
        return taken.job_id in self.jobs and self.jobs[taken.job_id].token == taken.token

    def took(self, taken: Claim, worker: str) -> None:
        expected = self.jobs[taken.job_id]
        assert expected.status is Status.QUEUED, "a job that was not waiting was claimed: two winners"
        expected.become(Status.RUNNING)
        expected.token, expected.attempt, expected.done = taken.token, taken.attempt, 0
        expected.worker, expected.started = worker, next(self.now)
        self.claims.append(taken)

    def write(self, taken: Claim, write: Callable[[], object], then: Callable[[], None]) -> None:
        """The write takes effect where the token is the current one, and raises LeaseLost anywhere else."""
        if self.holds(taken):
            write()
            then()
            self.tally["written"] += 1
        else:
            with pytest.raises(LeaseLost):
                write()
            self.tally["refused"] += 1

    def lose(self, lost: list[Expected]) -> None:
        """The workers of these were silent; other leases of theirs may stand yet."""
        now = next(self.now)
        beside = [any(other.is_suspect_beside(each) for other in self.jobs.values()) for each in lost]
        for expected, beside_suspect in zip(lost, beside, strict=True):
            expected.lose(now, beside_suspect=beside_suspect)

    def sweep(self) -> int:
        return return_expired(self.engine, lease_seconds=0, max_failures=MAX_FAILURES)
