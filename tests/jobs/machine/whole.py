"""The specification of a job's life beside the real thing: rival workers, a user, a stranger and a sweeper.

Hypothesis calls the rules in any order, on a real PostgreSQL; after every step all of it is compared.
"""

from uuid import UUID

from hypothesis.stateful import invariant
from sqlalchemy import func, select

from common.db import reading
from common.jobs.owner import cancel_job
from common.jobs.read import list_jobs
from common.jobs.retention import forget_finished
from common.jobs.state import TERMINAL
from common.jobs.tables import events, is_queued, jobs
from tests.jobs.machine.clock import INSTANT, Clock
from tests.jobs.machine.user import User
from tests.jobs.make import let_leases_run_out


class LeaseMachine(User, Clock):
    """What must be so after every step, whoever did what."""

    @invariant()
    def the_rows_are_as_specified(self) -> None:
        self.looks += 1
        rows, _ = list_jobs(self.engine, "ann", limit=1000)
        assert {row.id for row in rows} == set(self.jobs), "a job was lost, or came from nowhere"
        for row in rows:
            expected = self.jobs[row.id]
            assert (row.status, row.attempt, row.progress_done) == (expected.status, expected.attempt, expected.done)
            assert self.read_costs(row.id) == (expected.failures, expected.excused, sorted(expected.lost_by))
            assert [k for i in row.images for k in (i.key, i.thumbnail_key)] == expected.object_keys
            if expected.status in TERMINAL:
                assert expected.final in (None, row), "a finished job changed"
                expected.final = row

    def read_costs(self, job_id: UUID) -> tuple[int, int, list[str]]:
        with reading(self.engine) as connection:
            row = connection.execute(
                select(jobs.c.failures, jobs.c.excused, jobs.c.lost_by).where(jobs.c.id == job_id)
            ).one()
        return row.failures, row.excused, sorted(row.lost_by)

    @invariant()
    def the_event_log_tells_every_change_and_no_other(self) -> None:
        told: dict[UUID, list[str]] = {}
        with reading(self.engine) as connection:
            for event in connection.execute(select(events.c.job_id, events.c.to_status).order_by(events.c.id)):
                told.setdefault(event.job_id, []).append(event.to_status)
        assert told == {job_id: expected.path for job_id, expected in self.jobs.items()}

    @invariant()
    def nothing_stands_in_line_that_may_not_start(self) -> None:
        early = select(jobs.c.id).where(jobs.c.due, ~is_queued | (jobs.c.not_before > func.clock_timestamp()))
        with reading(self.engine) as connection:
            assert connection.execute(early).all() == []

    def teardown(self) -> None:
        """The next example starts with an empty queue: what waits or runs is ended, and all is forgotten."""
        self.tally["steps"] += self.looks - 1
        for job_id in self.jobs:
            cancel_job(self.engine, "ann", job_id)
        let_leases_run_out(self.engine)
        self.sweep()
        forget_finished(self.engine, days=INSTANT)
