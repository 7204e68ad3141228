"""Garbage: objects that no job names go, and nothing else does."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.garbage import find_garbage, settled_before
from common.jobs.owner import cancel_job, delete_job
from common.local.services import Services
from common.objects import Objects
from tests.jobs.make import PICTURE, claimed, submit
from tests.objects.make import make_objects
from worker.checkpoints import Checkpoints
from worker.chores import collect
from worker.stages.store import object_key


@pytest.fixture
def objects(services: Services) -> Iterator[Objects]:
    made = make_objects(services, bucket=f"garbage-{uuid4().hex}")
    made.ensure_bucket()
    yield made
    made.delete(keys(made))


def paint(objects: Objects, claim: Claim) -> tuple[str, str]:
    """What a worker uploads for one picture."""
    stored = [object_key(claim.job_id, claim.attempt, 0, extension) for extension in ("png", "thumb.webp")]
    for key in stored:
        objects.put(key, b"png", "image/png")
    return stored[0], stored[1]


def finish(engine: Engine, objects: Objects, claim: Claim) -> UUID:
    key, thumbnail_key = paint(objects, claim)
    picture = replace(PICTURE, key=key, thumbnail_key=thumbnail_key)
    lease.succeed(engine, claim, [picture], recipe={}, timings={})
    return claim.job_id


def checkpoint(objects: Objects, claim: Claim) -> str:
    """As a worker keeps one."""
    key = Checkpoints(objects, claim, 1)._key
    objects.put(key, b"latents", "application/octet-stream")
    return key


def keys(objects: Objects) -> set[str]:
    return {entry.key for entry in objects.entries("")}


def sweep(engine: Engine, objects: Objects) -> int:
    """As if all that is there was put long ago."""
    return collect(engine, objects, before=datetime.now(UTC) + timedelta(minutes=1))


def test_what_lost_attempts_and_gone_jobs_left_goes_and_what_rows_name_stays(engine: Engine, objects: Objects) -> None:
    submit(engine)
    lost = paint(objects, first := claimed(engine))
    lease.park(engine, first)
    finish(engine, objects, won := claimed(engine))
    left = checkpoint(objects, won)
    submit(engine)
    gone = finish(engine, objects, claimed(engine))
    delete_job(engine, "ann", gone)
    running = submit(engine)
    at_work = {*paint(objects, claim := claimed(engine)), checkpoint(objects, claim)}
    assert claim.job_id == running
    submit(engine)
    parked = checkpoint(objects, waits := claimed(engine))
    lease.park(engine, waits)

    named = {object_key(won.job_id, won.attempt, 0, extension) for extension in ("png", "thumb.webp")}
    before = keys(objects)
    assert {*lost, left} < before
    assert sweep(engine, objects) == 2 + 1 + 2
    assert keys(objects) == named | at_work | {parked}
    assert sweep(engine, objects) == 0


def test_a_canceled_jobs_uploads_go(engine: Engine, objects: Objects) -> None:
    job = submit(engine)
    uploaded = paint(objects, claimed(engine))
    cancel_job(engine, "ann", job)
    assert sweep(engine, objects) == 0, "its worker may yet write to the row"
    assert keys(objects) == set(uploaded)


@pytest.mark.parametrize(
    "key", ["readme.txt", "images/mine.png", f"images/{UUID(int=7)}/1/0.png", "checkpoints/a/1.safetensors"]
)
def test_what_kiln_did_not_write_is_not_touched(engine: Engine, objects: Objects, key: str) -> None:
    objects.put(key, b"mine", "text/plain")
    assert sweep(engine, objects) == 0
    assert keys(objects) == {key}


def test_the_young_stay(engine: Engine, objects: Objects) -> None:
    """Another database's clock or another attempt's upload: nothing that may still be named."""
    objects.put(object_key(uuid4(), 1, 0, "png"), b"png", "image/png")
    pages = find_garbage(engine, objects, before=settled_before(job_seconds=60))
    assert [page.seen for page in pages] == []


def test_another_databases_bucket_is_left_alone(engine: Engine, objects: Objects) -> None:
    """A bucket that was given to a new, empty database would be emptied within the hour."""
    for _ in range(101):
        objects.put(object_key(uuid4(), 1, 0, "png"), b"png", "image/png")
    assert sweep(engine, objects) == 0
    assert len(keys(objects)) == 101
