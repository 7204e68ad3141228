"""Reuse: what an owner asked for before, and got, is there at once; its objects stay as long as a row names them."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event, text

from common.db import make_engine, transaction
from common.errors import QueueFull
from common.jobs import best, lease
from common.jobs.batch import NewBatch, retry_failed, submit_batch
from common.jobs.best import drop_rest
from common.jobs.garbage import find_garbage
from common.jobs.owner import delete_job
from common.jobs.read import Job, get_job, list_jobs
from common.jobs.retention import forget_finished
from common.jobs.reuse import find_twins
from common.jobs.state import Status
from common.jobs.submit import submit_job
from common.jobs.workers import record_worker, remove_worker
from common.local.services import Services
from common.objects import Objects
from tests.jobs.make import PICTURE, claimed, submission, submit
from tests.objects.make import make_objects
from worker.stages.store import object_key

PAINTS_WITH = {"model_revisions": {"unet": "sha256:1"}, "versions": {"torch": "2"}}
RECIPE = PAINTS_WITH | {"seed": 1, "engine_mode": "exact"}


@pytest.fixture(autouse=True)
def worker(engine: Engine) -> None:
    enter(engine, PAINTS_WITH)


def enter(engine: Engine, recipe: dict[str, Any]) -> None:
    figures: dict[str, Any] = {}
    record_worker(
        engine, "w1", state="ready", models=["demo"], device="cpu", seats=1, figures=figures, recipes={"demo": recipe}
    )


def paint(engine: Engine, **changes: Any) -> UUID:
    """Submit a job, claim and finish it."""
    submit(engine, reuse=False, **changes)
    claim = claimed(engine)
    pictures = [
        replace(PICTURE, index=index, clip_score=20.0 + index, key=key(claim.job_id, index), thumbnail_key=f"{index}")
        for index in range(claim.spec.num_images)
    ]
    lease.succeed(engine, claim, pictures, recipe=RECIPE, timings={"diffuse_ms": 5})
    return claim.job_id


def key(job: UUID, index: int = 0) -> str:
    return object_key(job, 1, index, "png")


def read(engine: Engine, job_id: UUID) -> Job:
    job = get_job(engine, "ann", job_id)
    assert job is not None
    return job


def test_an_equal_job_is_over_at_once_with_the_same_pictures(engine: Engine) -> None:
    first = paint(engine, num_images=2)
    receipt = submit_job(engine, submission(num_images=2), max_queued=10)
    assert receipt.reused
    old, new = read(engine, first), read(engine, receipt.job_id)
    assert (new.status, new.reused_from, new.attempt) == (Status.SUCCEEDED, first, 0)
    assert (new.recipe, new.progress_done) == (old.recipe, old.progress_total)
    assert [(image.key, image.sha256, image.clip_score) for image in new.images] == [
        (image.key, image.sha256, image.clip_score) for image in old.images
    ]
    assert {image.id for image in new.images}.isdisjoint(image.id for image in old.images)
    with transaction(engine) as connection:
        told = connection.execute(text("SELECT to_status FROM events WHERE job_id = :id"), {"id": new.id}).scalars()
        assert list(told) == ["succeeded"]


@pytest.mark.parametrize("other", [{"seed": 2}, {"prompt": "a pear"}, {"reuse": False}, {"owner": "bob"}], ids=str)
def test_another_wish_is_painted(engine: Engine, other: dict[str, Any]) -> None:
    paint(engine)
    assert not submit_job(engine, submission(**other), max_queued=10).reused


def test_what_failed_is_painted_again(engine: Engine) -> None:
    submit(engine)
    lease.fail(engine, claimed(engine), QueueFull("why ever"))
    assert not submit_job(engine, submission(), max_queued=10).reused


@pytest.mark.parametrize(
    "change", [{"model_revisions": {"unet": "sha256:2"}}, {"versions": {"torch": "3"}}], ids=["weights", "libraries"]
)
def test_other_weights_or_libraries_paint_anew(engine: Engine, change: dict[str, Any]) -> None:
    paint(engine)
    enter(engine, PAINTS_WITH | change)
    assert not submit_job(engine, submission(), max_queued=10).reused


def test_without_a_worker_nobody_knows_what_would_be_painted(engine: Engine) -> None:
    paint(engine)
    remove_worker(engine, "w1")
    assert not submit_job(engine, submission(), max_queued=10).reused


def test_a_reused_job_does_not_wait_so_a_full_queue_is_no_obstacle(engine: Engine) -> None:
    paint(engine)
    submit(engine, seed=2)
    assert submit_job(engine, submission(), max_queued=1).reused
    with pytest.raises(QueueFull):
        submit_job(engine, submission(reuse=False), max_queued=1)


def test_the_same_key_is_the_same_job(engine: Engine) -> None:
    paint(engine)
    first, second = (submit_job(engine, submission(idempotency_key="k"), max_queued=10) for _ in range(2))
    assert (first.reused, second.replayed, first.job_id) == (True, True, second.job_id)


def test_reused_from_names_the_job_that_painted_also_when_it_is_gone(engine: Engine) -> None:
    painter = paint(engine)
    second = submit(engine)
    assert delete_job(engine, "ann", painter) == []
    third = submit(engine)
    assert [read(engine, job).reused_from for job in (second, third)] == [painter, painter]


def test_of_a_batch_what_is_there_is_over_and_the_rest_waits(engine: Engine) -> None:
    painter = paint(engine, seed=2)
    asked = [submission(seed=seed) for seed in (1, 2, 3)] + [submission(seed=2, reuse=False)]
    made = submit_batch(engine, NewBatch("ann", "n", "f"), asked, max_queued=3, max_queued_per_owner=3)
    jobs = list_jobs(engine, "ann", batch_id=made.batch_id, limit=10)[0][::-1]
    assert [(job.spec.seed, job.status.value, job.reused_from) for job in jobs] == [
        (1, "queued", None),
        (2, "succeeded", painter),
        (3, "queued", None),
        (2, "queued", None),
    ]
    assert [len(job.images) for job in jobs] == [0, 1, 0, 0]
    assert jobs[1].finished_at == jobs[1].created_at
    assert retry_failed(engine, "ann", made.batch_id, max_queued=10, max_queued_per_owner=10) == []


def test_a_worker_that_is_silent_says_no_more_what_would_be_painted(engine: Engine) -> None:
    paint(engine)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE workers SET seen_at = clock_timestamp() - interval '70 s'"))
    assert not submit_job(engine, submission(), max_queued=10).reused
    assert submit_job(engine, submission(), max_queued=10, alive_seconds=100).reused


def test_jobs_that_are_answered_already_have_a_limit_too(engine: Engine) -> None:
    """Of rows: they pass every limit of what may wait."""
    painter = paint(engine)
    batch, limits = NewBatch("ann", "n", "f"), {"max_queued": 5, "max_queued_per_owner": 5}
    with pytest.raises(QueueFull, match="6 of these jobs are answered already; you may have 5 such jobs in a minute"):
        submit_batch(engine, batch, [submission()] * 6, **limits)
    submit_batch(engine, batch, [submission()] * 3, **limits)
    with pytest.raises(QueueFull):
        submit_batch(engine, batch, [submission()] * 3, **limits)
    assert len(list_jobs(engine, "ann", limit=10)[0]) == 4
    with transaction(engine) as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE jobs SET finished_at = finished_at - interval '1 min'"))
    submit_batch(engine, batch, [submission()] * 3, **limits)
    assert read(engine, painter).status == "succeeded"


def test_objects_go_with_the_last_job_that_names_them(engine: Engine) -> None:
    painter = paint(engine)
    heirs = [submit(engine), submit(engine)]
    assert delete_job(engine, "ann", painter) == []
    assert delete_job(engine, "ann", heirs[0]) == []
    assert delete_job(engine, "ann", heirs[1]) == [key(painter), "0"]


def test_retention_removes_objects_once_with_all_their_jobs(engine: Engine) -> None:
    painter = paint(engine)
    submit(engine)
    assert forget_finished(engine, days=0) == (2, [key(painter), "0", key(painter), "0"])


def test_the_best_of_a_batch_are_chosen_among_reused_ones_too(engine: Engine) -> None:
    painters = [paint(engine, seed=seed) for seed in (1, 2)]
    asked = [submission(seed=seed) for seed in (1, 2)]
    made = submit_batch(engine, NewBatch("ann", "n", "f", keep_best=1), asked, max_queued=9, max_queued_per_owner=9)
    assert drop_rest(engine) == [], "the jobs that painted them keep them"
    jobs = list_jobs(engine, "ann", batch_id=made.batch_id, limit=10)[0]
    assert sorted(len([image for image in job.images if image.key]) for job in jobs) == [0, 1]
    assert all(read(engine, painter).images[0].key for painter in painters)


def paint_batch(engine: Engine, scores: list[float], **changes: Any) -> UUID:
    """A batch that is over, whose jobs differ by their seed and have these scores."""
    asked = [submission(seed=seed, reuse=False) for seed in range(len(scores))]
    made = submit_batch(engine, NewBatch("ann", "n", "f", **changes), asked, max_queued=99, max_queued_per_owner=99)
    for score in scores:
        claim = claimed(engine)
        picture = replace(PICTURE, clip_score=score, key=key(claim.job_id), thumbnail_key=f"{claim.job_id}")
        lease.succeed(engine, claim, [picture], recipe=RECIPE, timings={})
    return made.batch_id


def test_the_best_of_a_large_batch_are_kept_some_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best, "_LOT", 2)
    batch = paint_batch(engine, [21.0, 29.0, 23.0, 24.0, 28.0, 22.0], keep_best=2)
    assert [len(keys) if keys is not None else None for keys in (drop_rest(engine) for _ in range(4))] == [
        4,
        4,
        0,
        None,
    ]
    jobs = list_jobs(engine, "ann", batch_id=batch, limit=10)[0]
    assert sorted(image.clip_score for job in jobs for image in job.images if image.key) == [28.0, 29.0]


def test_a_batch_whose_jobs_are_retried_while_it_is_found_is_not_pruned(engine: Engine, database_url: str) -> None:
    """Else its new pictures would never be ranked."""
    other = make_engine(database_url, name="kiln-test")
    batch = paint_batch(engine, [21.0, 29.0], keep_best=1)
    with transaction(engine) as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE jobs SET status = 'expired' WHERE spec->>'seed' = '0'"))

    def retry(_: object, __: object, statement: str, *___: Any) -> None:
        if "SKIP LOCKED" in statement:
            assert retry_failed(other, "ann", batch, max_queued=9, max_queued_per_owner=9) == ["demo"]

    event.listen(engine, "before_cursor_execute", retry)
    assert drop_rest(engine) is None
    event.remove(engine, "before_cursor_execute", retry)
    other.dispose()


def test_what_keep_best_dropped_is_painted_again(engine: Engine) -> None:
    asked = [submission(seed=seed) for seed in (1, 2)]
    submit_batch(engine, NewBatch("ann", "n", "f", keep_best=1), asked, max_queued=9, max_queued_per_owner=9)
    for score in (30.0, 20.0):
        claim = claimed(engine)
        picture = replace(PICTURE, clip_score=score, key=key(claim.job_id), thumbnail_key=f"{claim.job_id}")
        lease.succeed(engine, claim, [picture], recipe=RECIPE, timings={})
    assert len(drop_rest(engine) or []) == 2
    assert [submit_job(engine, one, max_queued=9).reused for one in asked] == [True, False]


def test_a_deletion_waits_for_the_job_that_takes_the_pictures_over(engine: Engine) -> None:
    """Else it would see no heir, and remove the objects of one that is committed a moment later."""
    painter = paint(engine)
    removed: list[list[str] | None] = []
    deletion = threading.Thread(target=lambda: removed.append(delete_job(engine, "ann", painter)))
    with transaction(engine) as connection:
        assert find_twins(connection, "ann", [submission().spec.digest()])
        deletion.start()
        wait_until_blocked(engine)
    deletion.join(timeout=10)
    assert removed == [[key(painter), "0"]]


def wait_until_blocked(engine: Engine) -> None:
    statement = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    for _ in range(1000):
        with transaction(engine) as connection:
            if connection.execute(statement).scalar_one():
                return
    raise AssertionError("the deletion waits for nobody")


@pytest.fixture
def objects(services: Services) -> Iterator[Objects]:
    made = make_objects(services, bucket=f"reuse-{uuid4().hex}")
    made.ensure_bucket()
    yield made
    made.delete([entry.key for entry in made.entries("")])


def test_garbage_collection_leaves_what_an_heir_names(engine: Engine, objects: Objects) -> None:
    painter = paint(engine)
    submit(engine)
    delete_job(engine, "ann", painter)
    stray = key(uuid4())
    for put in (key(painter), stray):
        objects.put(put, b"png", "image/png")
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert [entry.key for page in find_garbage(engine, objects, before=later) for entry in page.garbage] == [stray]
