"""Retention: jobs go some days after their end, pictures and events included, and nothing else does."""

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select

from common.db import reading
from common.errors import Conflict, NotFound
from common.jobs import lease
from common.jobs.batch import NewBatch, retry_failed, submit_batch
from common.jobs.best import drop_rest
from common.jobs.deliveries import tell_completed
from common.jobs.outbox import deliveries
from common.jobs.owner import cancel_job
from common.jobs.read import get_job
from common.jobs.retention import clear_away, delete_batch
from common.jobs.tables import batches, events, images, jobs
from common.jobs.tally import get_batch
from common.local.services import Services
from common.objects import Objects
from tests.jobs.make import PICTURE, claimed, submission, submit
from tests.objects.make import make_objects
from worker.chores import remove, retain

INSTANT = 1e-9  # days: whatever has ended has ended longer ago


@pytest.fixture
def objects(services: Services) -> Objects:
    made = make_objects(services, bucket="retention-test")
    made.ensure_bucket()
    return made


def finished(engine: Engine, objects: Objects) -> UUID:
    job_id = submit(engine)
    picture = replace(PICTURE, key=f"images/{job_id}/1/0.png", thumbnail_key=f"images/{job_id}/1/0.thumb.webp")
    for key in (picture.key, picture.thumbnail_key):
        objects.put(str(key), b"png", "image/png")
    lease.succeed(engine, claimed(engine), [picture], recipe={}, timings={})
    return job_id


def test_what_ended_long_ago_goes_with_its_pictures_and_events_and_what_goes_on_stays(
    engine: Engine, objects: Objects
) -> None:
    old = finished(engine, objects)
    cancel_job(engine, "ann", canceled := submit(engine))
    running = submit(engine)
    claimed(engine)
    waiting = submit(engine)

    assert retain(engine, objects, INSTANT) == 2

    assert [get_job(engine, "ann", gone) for gone in (old, canceled)] == [None, None]
    assert all(get_job(engine, "ann", kept) for kept in (running, waiting))
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(images)).scalar_one() == 0
        assert set(connection.execute(select(events.c.job_id)).scalars()) == {running, waiting}
    with pytest.raises(NotFound):
        objects.open(f"images/{old}/1/0.png")


def make_batch(engine: Engine, count: int, **changes: Any) -> UUID:
    jobs = [submission(seed=seed) for seed in range(count)]
    batch = NewBatch("ann", "night", "f", **changes)
    return submit_batch(engine, batch, jobs, max_queued=99, max_queued_per_owner=99).batch_id


def finish_one(engine: Engine, objects: Objects) -> str:
    """Of what waits; the key of its picture."""
    taken = claimed(engine)
    picture = replace(
        PICTURE, key=f"images/{taken.job_id}/1/0.png", thumbnail_key=f"images/{taken.job_id}/1/0.thumb.webp"
    )
    for key in (picture.key, picture.thumbnail_key):
        objects.put(str(key), b"png", "image/png")
    lease.succeed(engine, taken, [picture], recipe={}, timings={})
    return str(picture.key)


def test_a_batch_keeps_its_jobs_until_all_of_them_are_old_and_then_goes_as_a_whole(
    engine: Engine, objects: Objects
) -> None:
    """Else its counts and its report would shrink while it goes on, and its best be chosen among what is left."""
    hook = {"url": "https://example.com/", "host": "example.com", "events": ["completed"]}
    batch = make_batch(engine, 3, webhook=hook)
    keys = [finish_one(engine, objects) for _ in range(2)]
    assert retain(engine, objects, INSTANT) == 0
    found = get_batch(engine, "ann", batch, alive_seconds=60)
    assert found is not None
    assert found.counts == {"succeeded": 2, "queued": 1}

    keys.append(finish_one(engine, objects))
    assert tell_completed(engine) == 1
    assert retain(engine, objects, 1) == 0, "young"
    assert retain(engine, objects, INSTANT) == 3
    with reading(engine) as connection:
        for table in (jobs, batches, deliveries, events, images):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0, table
    for key in keys:
        with pytest.raises(NotFound):
            objects.open(key)


def test_a_batch_whose_best_are_not_chosen_yet_is_kept(engine: Engine, objects: Objects) -> None:
    make_batch(engine, 2, keep_best=1)
    for _ in range(2):
        finish_one(engine, objects)
    assert retain(engine, objects, INSTANT) == 0
    drop_rest(engine)
    assert retain(engine, objects, INSTANT) == 2


def test_a_batch_is_deleted_once_it_is_over_and_nobody_sees_it_from_then_on(engine: Engine, objects: Objects) -> None:
    batch = make_batch(engine, 2, idempotency_key="k")
    finish_one(engine, objects)
    with pytest.raises(Conflict):
        delete_batch(engine, "ann", batch)
    finish_one(engine, objects)
    assert not delete_batch(engine, "bob", batch)
    assert delete_batch(engine, "ann", batch)
    assert get_batch(engine, "ann", batch, alive_seconds=60) is None
    assert not delete_batch(engine, "ann", batch)
    assert retry_failed(engine, "ann", batch, max_queued=9, max_queued_per_owner=9) == []
    again = make_batch(engine, 2, idempotency_key="k")
    assert again != batch
    assert remove(objects, partial(clear_away, engine)) == 2
    with reading(engine) as connection:
        assert connection.execute(select(batches.c.id)).scalars().all() == [again]


def test_what_ended_within_the_time_stays_with_its_pictures(engine: Engine, objects: Objects) -> None:
    young = finished(engine, objects)
    assert retain(engine, objects, 1) == 0
    assert get_job(engine, "ann", young) is not None
    assert b"".join(objects.open(f"images/{young}/1/0.png")) == b"png"
