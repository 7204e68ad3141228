"""The lease: what a token allows, and that nothing is written without it."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from common.db import transaction
from common.errors import LeaseLost, NotNow, NumericalError, StorageError
from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.gallery import Filter, list_images
from common.jobs.owner import cancel_job, delete_job
from common.jobs.read import Job, get_image, get_job
from common.jobs.spec import JobSpec
from common.jobs.state import TERMINAL, TRANSITIONS, Stage, Status
from common.jobs.sweep import expire_overdue, return_expired
from tests.jobs.make import (
    PICTURE,
    cancel_requested,
    claim,
    claimed,
    let_leases_run_out,
    let_pauses_pass,
    put_off,
    submit,
)


def read(engine: Engine, taken: Claim) -> Job:
    job = get_job(engine, "ann", taken.job_id)
    assert job is not None
    return job


def test_a_job_runs_under_its_first_claim_and_nobody_else_gets_it(engine: Engine) -> None:
    submit(engine)
    taken = claimed(engine)
    assert taken.attempt == 1
    assert isinstance(taken.spec, JobSpec)
    assert claim(engine, "w2") is None


def test_a_job_that_is_not_due_or_of_another_model_is_not_claimed(engine: Engine) -> None:
    submit(engine, not_before=datetime.now(UTC) + timedelta(hours=1))
    submit(engine, model="sd-v1-4")
    assert claim(engine) is None


def test_success_records_the_images_with_the_status(engine: Engine) -> None:
    submit(engine)
    taken = claimed(engine)
    assert lease.succeed(engine, taken, [PICTURE], recipe={"steps": 4}, timings={"diffuse_ms": 7}) is Status.SUCCEEDED
    job = read(engine, taken)
    assert (job.status, job.progress_done, job.recipe) == (Status.SUCCEEDED, 4, {"steps": 4})
    assert [(image.key, image.clip_score) for image in job.images] == [(PICTURE.key, 21.5)]


def test_finishing_twice_after_a_broken_connection_is_one_finish(engine: Engine) -> None:
    submit(engine)
    taken = claimed(engine)
    for _ in range(2):
        assert lease.succeed(engine, taken, [PICTURE], recipe={}, timings={}) is Status.SUCCEEDED
    assert len(read(engine, taken).images) == 1


def test_a_cancel_that_came_first_wins_over_success(engine: Engine) -> None:
    submit(engine)
    taken = claimed(engine)
    cancel_job(engine, "ann", taken.job_id)
    assert cancel_requested(engine, taken)
    assert lease.succeed(engine, taken, [PICTURE], recipe={}, timings={}) is Status.CANCELED
    assert read(engine, taken).images == ()


def test_a_queued_job_is_canceled_at_once_and_a_finished_one_is_left_alone(engine: Engine) -> None:
    job_id = submit(engine)
    cancel_job(engine, "ann", job_id)
    canceled = get_job(engine, "ann", job_id)
    assert canceled is not None
    assert canceled.status is Status.CANCELED
    cancel_job(engine, "ann", job_id)
    assert get_job(engine, "ann", job_id) == canceled
    assert claim(engine) is None


def test_another_owner_can_neither_see_nor_cancel_nor_delete(engine: Engine) -> None:
    submit(engine)
    taken = claimed(engine)
    cancel_job(engine, "bob", taken.job_id)
    assert not cancel_requested(engine, taken)
    lease.succeed(engine, taken, [PICTURE], recipe={}, timings={})
    assert get_job(engine, "bob", taken.job_id) is None
    assert delete_job(engine, "bob", taken.job_id) is None
    assert get_image(engine, "bob", read(engine, taken).images[0].id) is None
    assert list_images(engine, "bob", Filter(), best_first=False, after=None, limit=5) == ([], False)


def test_deleting_a_finished_job_names_its_objects(engine: Engine) -> None:
    submit(engine)
    taken = claimed(engine)
    lease.succeed(engine, taken, [PICTURE], recipe={}, timings={})
    assert delete_job(engine, "ann", taken.job_id) == [PICTURE.key, PICTURE.thumbnail_key]
    assert get_job(engine, "ann", taken.job_id) is None


def test_an_error_that_may_pass_is_tried_again_until_the_failures_are_used_up(engine: Engine) -> None:
    submit(engine)
    for expected in (Status.QUEUED, Status.QUEUED, Status.FAILED):
        taken = claimed(engine)
        assert lease.retry(engine, taken, StorageError("the bucket is away"), max_failures=3) is expected
        let_pauses_pass(engine)
    job = read(engine, taken)
    assert (job.attempt, job.error) == (
        3,
        {"code": "storage_unavailable", "message": "the bucket is away", "retryable": True},
    )


def test_a_retry_waits_before_the_job_is_due_again(engine: Engine) -> None:
    submit(engine)
    lease.retry(engine, claimed(engine), StorageError("away"), max_failures=3)
    assert claim(engine) is None


def test_a_permanent_error_fails_at_once(engine: Engine) -> None:
    submit(engine)
    taken = claimed(engine)
    lease.fail(engine, taken, NumericalError("the latents became NaN"))
    assert read(engine, taken).status is Status.FAILED


def test_a_parked_job_is_taken_up_again_without_a_failure_charged(engine: Engine) -> None:
    submit(engine)
    for attempt in range(1, 7):
        taken = claimed(engine)
        assert taken.attempt == attempt
        lease.park(engine, taken)
    assert lease.retry(engine, claimed(engine), StorageError("away"), max_failures=2) is Status.QUEUED


def test_progress_belongs_to_the_row_and_starts_anew_with_each_attempt(engine: Engine) -> None:
    submit(engine)
    taken = claimed(engine)
    assert lease.save(engine, taken, stage=Stage.DIFFUSE, done=3, texts={"styled_prompt": "s"}) is False
    job = read(engine, taken)
    assert (job.stage, job.progress_done, job.styled_prompt) == ("diffuse", 3, "s")
    lease.park(engine, taken)
    assert read(engine, claimed(engine)).progress_done == 0


def test_a_running_job_that_was_given_a_later_time_is_to_wait_unless_it_is_canceled(engine: Engine) -> None:
    """A night's job that paints on in the morning; or one that parks over a cancel, and is canceled a night later."""
    submit(engine)
    taken = claimed(engine)
    put_off(engine)
    for look in (lambda: cancel_requested(engine, taken), lambda: lease.save(engine, taken, stage="score", done=1)):
        with pytest.raises(NotNow):
            look()
    assert read(engine, taken).progress_done == 1, "what it had done by then is not known"
    cancel_job(engine, "ann", taken.job_id)
    assert cancel_requested(engine, taken)
    assert lease.save(engine, taken, stage="score", done=2)


def test_extending_names_the_leases_that_stand_and_the_cancels_asked_for(engine: Engine) -> None:
    submit(engine), submit(engine), submit(engine)
    kept, canceled, lost = claimed(engine), claimed(engine), claimed(engine)
    cancel_job(engine, "ann", canceled.job_id)
    lease.park(engine, lost)
    assert lease.extend_leases(engine, [kept.token, canceled.token, lost.token], 60) == {
        kept.token: False,
        canceled.token: True,
    }


def test_no_lease_is_extended_beyond_the_run_deadline(engine: Engine) -> None:
    submit(engine)
    taken = claimed(engine, job_seconds=0)
    lease.extend_leases(engine, [taken.token], 60)
    assert return_expired(engine, lease_seconds=0, max_failures=4) == 1


def test_a_silent_workers_job_returns_and_its_late_writes_change_nothing(engine: Engine) -> None:
    submit(engine)
    late = claimed(engine, "w1")
    let_leases_run_out(engine)
    assert return_expired(engine, lease_seconds=0, max_failures=4) == 1
    let_pauses_pass(engine)
    current = claimed(engine, "w2")
    before = read(engine, current)
    for write in (
        lambda: lease.save(engine, late, stage=Stage.STORE, done=4),
        lambda: lease.succeed(engine, late, [PICTURE], recipe={}, timings={}),
        lambda: lease.retry(engine, late, StorageError("x"), max_failures=4),
        lambda: lease.fail(engine, late, StorageError("x")),
        lambda: lease.cancel(engine, late),
        lambda: lease.park(engine, late),
        lambda: cancel_requested(engine, late),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert lease.extend_leases(engine, [late.token], 60) == {}
    assert read(engine, current) == before


def test_a_job_that_loses_every_worker_fails_with_worker_lost(engine: Engine) -> None:
    submit(engine)
    for _ in range(4):
        taken = claimed(engine)
        let_leases_run_out(engine)
        return_expired(engine, lease_seconds=0, max_failures=4)
        let_pauses_pass(engine)
    job = read(engine, taken)
    assert job.error is not None
    assert (job.status, job.error["code"]) == (Status.FAILED, "worker_lost")


def test_the_sweep_waits_one_lease_after_the_database_started(engine: Engine) -> None:
    submit(engine)
    claimed(engine)
    let_leases_run_out(engine)
    assert return_expired(engine, lease_seconds=10_000_000, max_failures=4) == 0


def test_a_deadline_that_passes_expires_a_queued_job_and_no_running_one(engine: Engine) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    running, waiting = submit(engine, deadline=soon), submit(engine, deadline=soon)
    assert claimed(engine).job_id == running
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET deadline = clock_timestamp() - interval '1 s'"))
    assert claim(engine) is None
    assert expire_overdue(engine) == 1
    job = get_job(engine, "ann", waiting)
    assert job is not None
    assert job.status is Status.EXPIRED


def test_a_job_that_began_in_time_and_was_parked_goes_on_after_its_deadline(engine: Engine) -> None:
    submit(engine, deadline=datetime.now(UTC) + timedelta(seconds=30))
    begun = claimed(engine)
    lease.park(engine, begun)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET deadline = clock_timestamp() - interval '1 s'"))
    assert expire_overdue(engine) == 0
    assert claimed(engine).job_id == begun.job_id


@pytest.mark.parametrize("target", list(Status))
@pytest.mark.parametrize("source", list(Status))
def test_the_database_allows_exactly_the_transitions_in_code(engine: Engine, source: Status, target: Status) -> None:
    job_id = submit(engine)
    if source not in (Status.QUEUED, Status.EXPIRED):  # only a waiting job expires
        force(engine, str(job_id), Status.RUNNING)
    if source in TERMINAL:
        force(engine, str(job_id), source)
    allowed = (source, target) in TRANSITIONS or (source is target and source not in TERMINAL)
    if allowed:
        force(engine, str(job_id), target)
    else:
        with pytest.raises(IntegrityError):
            force(engine, str(job_id), target)


def force(engine: Engine, job_id: str, status: Status) -> None:
    """What a program that goes around this code would write."""
    statement = text(
        "UPDATE jobs SET status = :status, error = '{}'::jsonb,"
        " lease_token = CASE WHEN :status = 'running' THEN gen_random_uuid() END,"
        " lease_expires_at = CASE WHEN :status = 'running' THEN clock_timestamp() END,"
        " finished_at = CASE WHEN :status IN ('queued', 'running') THEN NULL ELSE clock_timestamp() END WHERE id = :id"
    )
    with transaction(engine) as connection:
        connection.execute(statement, {"status": status.value, "id": job_id})
