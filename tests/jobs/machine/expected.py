"""What the specification says of every job, written down step by step without a look at the database."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import Engine

from common.errors import LeaseLost
from common.jobs.claim import Claim
from common.jobs.read import Job
from common.jobs.state import Status
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


class Table(RuleBasedStateMachine):
    """All jobs as they ought to stand, and every claim ever given. The rules of user, workers and clock change it.

    ``tally`` counts the steps, and the writes that were let through and refused, over all examples.
    """

    def __init__(self, engine: Engine, tally: Counter[str]) -> None:
        super().__init__()
        self.engine = engine
        self.tally = tally
        self.looks = 0
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

    def took(self, taken: Claim) -> None:
        expected = self.jobs[taken.job_id]
        assert expected.status is Status.QUEUED, "a job that was not waiting was claimed: two winners"
        expected.become(Status.RUNNING)
        expected.token, expected.attempt, expected.done = taken.token, taken.attempt, 0
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

    def sweep(self) -> int:
        return return_expired(self.engine, lease_seconds=0, max_failures=MAX_FAILURES)
