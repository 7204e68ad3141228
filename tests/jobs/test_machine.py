"""Any order of calls: two rival workers, a user and a sweeper drive the lease against a real PostgreSQL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine

from common.errors import LeaseLost, NumericalError, StorageError
from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.owner import cancel_job
from common.jobs.read import Job, get_job
from common.jobs.state import TERMINAL, Stage, Status
from common.jobs.sweep import return_expired
from tests.jobs.make import PICTURE, claim, let_leases_run_out, let_pauses_pass, submit

MAX_FAILURES = 3
WORKERS = ("w1", "w2")


@dataclass
class Expected:
    """What the specification says of one job: written down independently of the database."""

    status: Status = Status.QUEUED
    token: UUID | None = None
    failures: int = 0
    cancel: bool = False
    final: Job | None = None

    def end(self, status: Status) -> None:
        self.status, self.token = status, None

    def charge(self) -> None:
        self.failures += 1
        used_up = self.failures >= MAX_FAILURES
        self.end(Status.CANCELED if self.cancel else Status.FAILED if used_up else Status.QUEUED)


class LeaseMachine(RuleBasedStateMachine):
    """The specification beside the real thing."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[UUID, Expected] = {}
        self.claims: list[Claim] = []  # every claim ever given, stale ones too

    @rule()
    def submit(self) -> None:
        self.jobs[submit(self.engine)] = Expected()

    @rule(worker=st.sampled_from(WORKERS), oldest=st.booleans())
    def claim(self, worker: str, oldest: bool) -> None:
        let_pauses_pass(self.engine)
        self._took(claim(self.engine, worker, oldest=oldest))

    @rule()
    def both_claim_at_once(self) -> None:
        let_pauses_pass(self.engine)
        with ThreadPoolExecutor(2) as threads:
            for taken in list(threads.map(lambda worker: claim(self.engine, worker), WORKERS)):
                self._took(taken)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), done=st.integers(0, 4))
    def save(self, data: st.DataObject, done: int) -> None:
        taken = self._pick(data)
        expected = self.jobs[taken.job_id]

        def saved() -> None:
            assert lease.save(self.engine, taken, stage=Stage.DIFFUSE, done=done) is expected.cancel

        self._write(taken, saved, lambda: None)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        taken = self._pick(data)
        expected = self.jobs[taken.job_id]
        if expected.final and expected.status is Status.SUCCEEDED and expected.final.attempt == taken.attempt:
            return  # repeating one's own finish is allowed, and tested on its own
        self._write(
            taken,
            lambda: lease.succeed(self.engine, taken, [PICTURE], recipe={}, timings={}),
            lambda: expected.end(Status.CANCELED if expected.cancel else Status.SUCCEEDED),
        )

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        taken = self._pick(data)
        self._write(
            taken,
            lambda: lease.retry(self.engine, taken, StorageError("away"), max_failures=MAX_FAILURES),
            self.jobs[taken.job_id].charge,
        )

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        taken = self._pick(data)
        self._write(
            taken,
            lambda: lease.fail(self.engine, taken, NumericalError("NaN")),
            lambda: self.jobs[taken.job_id].end(Status.FAILED),
        )

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        taken = self._pick(data)
        expected = self.jobs[taken.job_id]
        self._write(
            taken,
            lambda: lease.park(self.engine, taken),
            lambda: expected.end(Status.CANCELED if expected.cancel else Status.QUEUED),
        )

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def cancel_seen(self, data: st.DataObject) -> None:
        taken = self._pick(data)
        self._write(
            taken,
            lambda: lease.cancel(self.engine, taken),
            lambda: self.jobs[taken.job_id].end(Status.CANCELED),
        )

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def user_cancels(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        expected = self.jobs[job_id]
        cancel_job(self.engine, "ann", job_id)
        expected.cancel = True
        if expected.status is Status.QUEUED:
            expected.end(Status.CANCELED)

    @rule()
    def leases_run_out_and_are_swept(self) -> None:
        let_leases_run_out(self.engine)
        running = [expected for expected in self.jobs.values() if expected.status is Status.RUNNING]
        assert return_expired(self.engine, lease_seconds=0, max_failures=MAX_FAILURES) == len(running)
        for expected in running:
            expected.charge()

    @rule()
    def heartbeat(self) -> None:
        standing = lease.extend_leases(self.engine, [taken.token for taken in self.claims], 60)
        held = {e.token: e.cancel for e in self.jobs.values() if e.token is not None}
        assert standing == held

    @invariant()
    def the_rows_are_as_specified(self) -> None:
        for job_id, expected in self.jobs.items():
            job = get_job(self.engine, "ann", job_id)
            assert job is not None, "a job was lost"
            assert job.status is expected.status
            assert len(job.images) == (1 if expected.status is Status.SUCCEEDED else 0)
            if expected.status in TERMINAL:
                assert expected.final in (None, job), "a finished job changed"
                expected.final = job

    def teardown(self) -> None:
        """The next example starts with an empty queue: what waits or runs is ended."""
        for job_id in self.jobs:
            cancel_job(self.engine, "ann", job_id)
        let_leases_run_out(self.engine)
        return_expired(self.engine, lease_seconds=0, max_failures=MAX_FAILURES)

    def _pick(self, data: st.DataObject) -> Claim:
        return data.draw(st.sampled_from(self.claims))

    def _took(self, taken: Claim | None) -> None:
        if taken is None:
            return
        expected = self.jobs[taken.job_id]
        assert expected.status is Status.QUEUED, "a job that was not waiting was claimed: two winners"
        expected.status, expected.token = Status.RUNNING, taken.token
        self.claims.append(taken)

    def _write(self, taken: Claim, write: Callable[[], object], then: Callable[[], None]) -> None:
        """The write takes effect where the token is the current one, and raises LeaseLost anywhere else."""
        if self.jobs[taken.job_id].token == taken.token:
            write()
            then()
        else:
            with pytest.raises(LeaseLost):
                write()


def test_any_order_of_calls_keeps_every_promise(engine: Engine) -> None:
    LeaseMachine.engine = engine
    run_state_machine_as_test(
        LeaseMachine,
        settings=settings(
            max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
