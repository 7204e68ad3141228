"""Submitting: once per idempotency key, fair between owners, and never beyond the limit."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from common.errors import IdempotencyMismatch, QueueFull
from common.jobs.read import get_job, list_jobs
from common.jobs.state import Lane, Status
from common.jobs.submit import submit_job
from tests.jobs.make import claimed, submission, submit


def test_a_submitted_job_is_queued_and_whole(engine: Engine) -> None:
    job_id = submit(engine, scheduler="heun_discrete", num_images=2, metadata={"album": "fruit"})
    job = get_job(engine, "ann", job_id)
    assert job is not None
    assert (job.status, job.attempt, job.metadata) == (Status.QUEUED, 0, {"album": "fruit"})
    assert job.progress_total == 2 * (2 * 4 - 1)
    assert job.spec.prompt == "a red apple"


def test_the_same_key_and_request_is_one_job(engine: Engine) -> None:
    first = submit_job(engine, submission(idempotency_key="k"), max_queued=10)
    again = submit_job(engine, submission(idempotency_key="k"), max_queued=10)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.job_id == again.job_id
    assert len(list_jobs(engine, "ann", limit=10)[0]) == 1


def test_keys_of_two_owners_do_not_meet(engine: Engine) -> None:
    ann = submit_job(engine, submission("ann", idempotency_key="k"), max_queued=10)
    bob = submit_job(engine, submission("bob", idempotency_key="k"), max_queued=10)
    assert ann.job_id != bob.job_id


def test_the_same_key_with_another_request_is_refused(engine: Engine) -> None:
    submit_job(engine, submission(idempotency_key="k"), max_queued=10)
    with pytest.raises(IdempotencyMismatch):
        submit_job(engine, submission(idempotency_key="k", fingerprint="other"), max_queued=10)


def test_the_same_key_sent_twenty_times_at_once_is_one_job(engine: Engine) -> None:
    def send(_: int) -> object:
        return submit_job(engine, submission(idempotency_key="k"), max_queued=100).job_id

    with ThreadPoolExecutor(10) as threads:
        assert len(set(threads.map(send, range(20)))) == 1
    assert len(list_jobs(engine, "ann", limit=50)[0]) == 1


def test_a_full_queue_refuses_and_keeps_what_it_has(engine: Engine) -> None:
    for _ in range(3):
        submit_job(engine, submission(), max_queued=3)
    with pytest.raises(QueueFull):
        submit_job(engine, submission(), max_queued=3)
    assert len(list_jobs(engine, "ann", limit=10)[0]) == 3


def test_ten_jobs_behind_a_hundred_of_another_owner_start_among_the_next_twenty(engine: Engine) -> None:
    for _ in range(100):
        submit(engine, "ann")
    for _ in range(7):  # ann's backlog is under way when bob comes
        claimed(engine)
    bobs = {submit(engine, "bob") for _ in range(10)}
    next_twenty = {claimed(engine).job_id for _ in range(20)}
    assert bobs <= next_twenty


def test_an_owners_own_jobs_keep_their_order(engine: Engine) -> None:
    mine = [submit(engine, "ann") for _ in range(5)]
    for _ in range(5):
        submit(engine, "bob")
    taken = [claimed(engine).job_id for _ in range(10)]
    assert [job_id for job_id in taken if job_id in mine] == mine


def test_interactive_goes_before_batch_and_higher_priority_first(engine: Engine) -> None:
    batch = submit(engine, lane=Lane.BATCH, priority=1000)
    plain = submit(engine)
    urgent = submit(engine, priority=5)
    assert [claimed(engine).job_id for _ in range(3)] == [urgent, plain, batch]


def test_every_so_often_the_oldest_goes_first(engine: Engine) -> None:
    old = submit(engine, lane=Lane.BATCH)
    submit(engine, priority=1000)
    assert claimed(engine, oldest=True).job_id == old


def test_an_owners_share_of_the_queue_is_theirs_alone_and_counts_both_lanes(engine: Engine) -> None:
    limits = {"max_queued": 10, "max_queued_per_owner": 2}
    for lane in Lane:
        submit_job(engine, submission("ann", lane=lane), **limits)
    with pytest.raises(QueueFull, match="your share of the queue is full: 2 jobs"):
        submit_job(engine, submission("ann"), **limits)
    submit_job(engine, submission("bob"), **limits)
    claimed(engine)  # one of ann's, for she came first: what runs does not wait
    submit_job(engine, submission("ann"), **limits)
    assert len(list_jobs(engine, "ann", limit=10)[0]) == 3
