"""Retention: jobs go some days after their end, pictures and events included, and nothing else does."""

from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select

from common.db import reading
from common.errors import NotFound
from common.jobs import lease
from common.jobs.owner import cancel_job
from common.jobs.read import get_job
from common.jobs.tables import events, images
from common.local.services import Services
from common.objects import Objects
from tests.jobs.make import PICTURE, claimed, submit
from tests.objects.make import make_objects
from worker.chores import retain

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


def test_what_ended_within_the_time_stays_with_its_pictures(engine: Engine, objects: Objects) -> None:
    young = finished(engine, objects)
    assert retain(engine, objects, 1) == 0
    assert get_job(engine, "ann", young) is not None
    assert b"".join(objects.open(f"images/{young}/1/0.png")) == b"png"
