"""What giving a job back leaves in its row: the pause before it is due again, and nothing of the attempt."""

from typing import Any

import pytest
from sqlalchemy import Engine, Row, select, text

from common.db import reading, transaction
from common.errors import LeaseLost, StorageError, WorkerLost
from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.lease import StoredImage
from common.jobs.owner import cancel_job
from common.jobs.state import Stage, Status
from common.jobs.sweep import return_expired, take_unpublished
from common.jobs.tables import images, jobs
from tests.jobs.make import PICTURE, cancel_requested, claimed, let_leases_run_out, let_pauses_pass, put_off, submit

ENOUGH = 200  # draws of a pause: that none of them comes near an end has a chance below one in a billion

MANY = text("""
INSERT INTO jobs (id, owner, spec, spec_digest, model, metadata, fingerprint, lane, priority, turn, progress_total,
    failures, status, lease_token, lease_expires_at)
SELECT gen_random_uuid(), 'ann', '{}', '', 'demo', '{}', '', 'batch', 0, 0, 4,
    :failures, 'running', gen_random_uuid(), clock_timestamp() - interval '1 s' FROM generate_series(1, :enough)
""")


def row_of(engine: Engine) -> Row[Any]:
    with reading(engine) as connection:
        return connection.execute(select(jobs)).one()


def pauses(engine: Engine, failures: int) -> list[float]:
    """Seconds until each of many jobs is due again that lost its worker after so many ``failures``."""
    with transaction(engine) as connection:
        connection.execute(MANY, {"failures": failures, "enough": ENOUGH})
    assert return_expired(engine, lease_seconds=0, max_failures=100) == ENOUGH
    with reading(engine) as connection:
        pause = text("SELECT extract(epoch FROM not_before - clock_timestamp()) FROM jobs")
        return [float(each) for each in connection.execute(pause).scalars()]


@pytest.mark.parametrize(
    ("failures", "shortest", "longest"), [(0, 1, 3), (1, 2, 6), (3, 8, 24), (7, 128, 384), (20, 150, 450)]
)
def test_the_pause_doubles_with_each_failure_up_to_five_minutes_and_is_spread_by_half(
    engine: Engine, failures: int, shortest: float, longest: float
) -> None:
    found, tenth = pauses(engine, failures), (longest - shortest) / 10
    assert shortest - 1 < min(found) < shortest + tenth  # a second has passed at most
    assert longest - tenth - 1 < max(found) < longest


def test_a_job_that_may_start_later_starts_no_sooner_for_its_failure(engine: Engine) -> None:
    taken = begun(engine)
    put_off(engine)
    later = row_of(engine).not_before
    lease.retry(engine, taken, StorageError("away"), max_failures=3)
    assert row_of(engine).not_before == later


def begun(engine: Engine) -> Claim:
    """A job with a stage and progress, whose message was sent."""
    submit(engine)
    taken = claimed(engine)
    lease.save(engine, taken, stage=Stage.DIFFUSE, done=3)
    assert row_of(engine).published_at is not None
    return taken


def test_a_parked_job_is_due_as_before_unheard_of_and_shows_nothing_of_the_attempt(engine: Engine) -> None:
    taken = begun(engine)
    before = row_of(engine)
    lease.park(engine, taken)
    after = row_of(engine)
    assert (after.status, after.failures, after.not_before) == ("queued", 0, before.not_before)
    assert (after.stage, after.published_at, after.finished_at, after.error) == (None, None, None, None)
    assert (after.lease_token, after.lease_expires_at, after.run_deadline_at) == (None, None, None)
    assert take_unpublished(engine, "demo", 5) == 1


def test_a_parked_job_that_was_to_be_canceled_has_ended(engine: Engine) -> None:
    taken = begun(engine)
    cancel_job(engine, "ann", taken.job_id)
    lease.park(engine, taken)
    after = row_of(engine)
    assert (after.status, after.finished_at is not None) == ("canceled", True)


def test_a_job_with_an_error_is_unheard_of_and_shows_nothing_of_the_attempt(engine: Engine) -> None:
    lease.retry(engine, begun(engine), StorageError("away"), max_failures=2)
    after = row_of(engine)
    assert (after.status, after.failures, after.stage, after.published_at) == ("queued", 1, None, None)
    assert (after.error, after.finished_at) == (None, None)
    assert (after.lease_token, after.lease_expires_at, after.run_deadline_at) == (None, None, None)


@pytest.mark.parametrize(("cancel", "status"), [(False, "failed"), (True, "canceled")])
def test_the_last_failure_or_a_cancel_ends_the_job_and_only_a_failed_one_has_an_error(
    engine: Engine, cancel: bool, status: str
) -> None:
    taken = begun(engine)
    if cancel:
        cancel_job(engine, "ann", taken.job_id)
    assert lease.retry(engine, taken, StorageError("away"), max_failures=1) == status
    after = row_of(engine)
    error = None if cancel else {"code": "storage_unavailable", "message": "away", "retryable": True}
    assert (after.status, after.error, after.failures, after.stage) == (status, error, 1, None)
    assert after.finished_at is not None


def test_a_permanent_error_is_told_charged_and_ends_the_job(engine: Engine) -> None:
    lease.fail(engine, begun(engine), WorkerLost("gone"))
    after = row_of(engine)
    assert (after.status, after.failures, after.stage) == ("failed", 1, None)
    assert after.error == {"code": "worker_lost", "message": "gone", "retryable": False}
    assert after.finished_at is not None
    assert (after.lease_token, after.lease_expires_at, after.run_deadline_at) == (None, None, None)


def test_a_cancel_that_was_seen_ends_the_job_where_it_stood(engine: Engine) -> None:
    lease.cancel(engine, begun(engine))
    after = row_of(engine)
    assert (after.status, after.failures, after.stage, after.progress_done) == ("canceled", 0, None, 3)
    assert after.finished_at is not None


def test_a_success_is_whole_in_row_and_images_also_for_pictures_that_were_dropped(engine: Engine) -> None:
    dropped = StoredImage(index=1, seed=2, width=64, height=64, clip_score=1.0)
    lease.succeed(engine, begun(engine), [PICTURE, dropped], recipe={"steps": 4}, timings={"diffuse_ms": 7})
    after = row_of(engine)
    assert (after.status, after.stage, after.progress_done, after.failures) == ("succeeded", None, 4, 0)
    assert (after.recipe, after.timings) == ({"steps": 4}, {"diffuse_ms": 7})
    assert after.finished_at is not None
    assert (after.lease_token, after.lease_expires_at, after.run_deadline_at) == (None, None, None)
    with reading(engine) as connection:
        rows = connection.execute(select(images).order_by(images.c.index)).all()
    assert [(row.job_id, row.index, row.kept, row.key) for row in rows] == [
        (after.id, 0, True, PICTURE.key),
        (after.id, 1, False, None),
    ]
    assert rows[0].id != rows[1].id


def test_a_cancel_before_the_finish_keeps_recipe_and_progress_as_they_were(engine: Engine) -> None:
    taken = begun(engine)
    cancel_job(engine, "ann", taken.job_id)
    assert lease.succeed(engine, taken, [PICTURE], recipe={}, timings={}) is Status.CANCELED
    after = row_of(engine)
    assert (after.status, after.stage, after.progress_done) == ("canceled", None, 3)


def test_a_heartbeat_prolongs_by_what_it_says(engine: Engine) -> None:
    taken = begun(engine)
    lease.extend_leases(engine, [taken.token], 600)
    with reading(engine) as connection:
        left = connection.execute(text("SELECT extract(epoch FROM lease_expires_at - clock_timestamp()) FROM jobs"))
        assert 590 < left.scalar_one() <= 600


def test_a_finish_is_recognized_as_repeated_by_job_attempt_and_success(engine: Engine) -> None:
    submit(engine)
    lease.succeed(engine, claimed(engine), [PICTURE], recipe={}, timings={})  # another's first attempt, of no avail
    submit(engine)
    first = claimed(engine)
    let_leases_run_out(engine)
    return_expired(engine, lease_seconds=0, max_failures=4)
    let_pauses_pass(engine)
    second = claimed(engine)
    lease.succeed(engine, second, [PICTURE], recipe={}, timings={})
    submit(engine)
    other = claimed(engine)
    lease.fail(engine, other, WorkerLost("gone"))
    for late in (first, other):
        with pytest.raises(LeaseLost, match=f"job {late.job_id}: the lease of attempt 1 no longer stands"):
            lease.succeed(engine, late, [PICTURE], recipe={}, timings={})
    assert lease.succeed(engine, second, [PICTURE], recipe={}, timings={}) is Status.SUCCEEDED


def test_saving_tells_whether_a_cancel_was_asked_for(engine: Engine) -> None:
    taken = begun(engine)
    assert lease.save(engine, taken, stage=Stage.DIFFUSE, done=3) is False
    cancel_job(engine, "ann", taken.job_id)
    assert lease.save(engine, taken, stage=Stage.DIFFUSE, done=3) is True


def test_who_lost_the_lease_is_told_which(engine: Engine) -> None:
    taken = begun(engine)
    lease.park(engine, taken)
    for write in (lambda: cancel_requested(engine, taken), lambda: lease.cancel(engine, taken)):
        with pytest.raises(LeaseLost, match=f"job {taken.job_id}: the lease of attempt 1 no longer stands"):
            write()
