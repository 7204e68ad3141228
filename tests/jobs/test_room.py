"""The limits of the queue: kept to the job, and without counting what waits at each submission."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from common.db import make_engine
from common.errors import NumericalError, QueueFull
from common.jobs import lease
from common.jobs.batch import NewBatch, submit_batch
from common.jobs.owner import cancel_job
from common.jobs.read import list_jobs
from common.jobs.submit import submit_job
from tests.jobs.make import claimed, submission, submit

LIMITS = {"max_queued": 7, "max_queued_per_owner": 5}


@contextmanager
def counting(engine: Engine) -> Iterator[list[str]]:
    """The statements in the block that counted jobs."""
    counted: list[str] = []

    def note(_: Connection, __: object, statement: str, *___: Any) -> None:
        if "count(*)" in statement:
            counted.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield counted
    event.remove(engine, "before_cursor_execute", note)


def waiting(engine: Engine, owner: str = "ann") -> int:
    return sum(job.status == "queued" for job in list_jobs(engine, owner, limit=1000)[0])


def fill(engine: Engine, owner: str = "ann") -> int:
    """Submit until it is refused; how many were taken."""
    for taken in range(100):
        try:
            submit_job(engine, submission(owner), **LIMITS)
        except QueueFull:
            return taken
    raise AssertionError("nothing was refused")


def test_both_limits_are_kept_to_the_job_and_what_leaves_makes_room(engine: Engine) -> None:
    assert (fill(engine, "ann"), fill(engine, "bob")) == (5, 2)
    lease.fail(engine, claimed(engine), NumericalError("NaN"))
    claimed(engine)  # owners take turns
    assert (fill(engine, "ann"), fill(engine, "bob")) == (1, 1)
    assert (waiting(engine, "ann") + waiting(engine, "bob")) == 7


def test_jobs_that_came_back_count_again(engine: Engine) -> None:
    fill(engine)
    taken = claimed(engine)
    assert fill(engine) == 1
    lease.park(engine, taken)
    assert (waiting(engine), fill(engine)) == (6, 0)
    cancel_job(engine, "ann", taken.job_id)
    assert (waiting(engine), fill(engine)) == (5, 0)


def test_what_another_process_submits_counts(engine: Engine, database_url: str) -> None:
    submit_job(engine, submission(), **LIMITS)
    other = make_engine(database_url, name="kiln-test")
    for _ in range(4):
        submit_job(other, submission(), **LIMITS)
    other.dispose()
    assert fill(engine) == 0


def test_a_refused_submission_takes_no_room(engine: Engine) -> None:
    fill(engine)
    for _ in range(20):
        with pytest.raises(QueueFull):
            submit_job(engine, submission(), **LIMITS)
    claimed(engine)
    assert fill(engine) == 1


def test_a_batch_that_just_fits_is_taken_and_one_job_more_is_not(engine: Engine) -> None:
    submit(engine)

    def batch(jobs: int) -> None:
        submit_batch(engine, NewBatch("ann", "night", "f"), [submission(seed=seed) for seed in range(jobs)], **LIMITS)

    with pytest.raises(QueueFull, match="your share of the queue has no room for 5 jobs: 5 may wait in all"):
        batch(5)
    batch(4)
    with pytest.raises(QueueFull):
        batch(1)
    assert waiting(engine) == 5


def test_far_from_the_limits_nothing_is_counted(engine: Engine) -> None:
    far = {"max_queued": 1000, "max_queued_per_owner": 500}
    submit_job(engine, submission(), **far)
    with counting(engine) as counted:
        for _ in range(20):
            submit_job(engine, submission(), **far)
        submit_batch(engine, NewBatch("ann", "night", "f"), [submission(seed=seed) for seed in range(100)], **far)
        assert counted == []
        for _ in range(500 - 121):
            submit_job(engine, submission(), **far)
        with pytest.raises(QueueFull):
            submit_job(engine, submission(), **far)
    assert len(counted) <= 3
