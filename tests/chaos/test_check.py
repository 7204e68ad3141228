"""The checker sees each kind of broken promise, planted by hand, and none where all was kept."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from common.db import make_engine, transaction
from common.ids import show_id
from common.jobs.lease import StoredImage, park, succeed
from common.local.services import Services
from common.objects import Objects
from tests.chaos.check import Report, check
from tests.jobs.make import PICTURE, claimed, submit
from tests.objects.make import make_objects


@dataclass(frozen=True, slots=True)
class Scene:
    """A database, a bucket and what a client wrote down."""

    engine: Engine
    objects: Objects
    log: list[str] = field(default_factory=list)

    def accept(self, key: str) -> UUID:
        job = submit(self.engine, idempotency_key=key)
        self.log.append(json.dumps({"asked": key}))
        self.log.append(json.dumps({"accepted": show_id("job", job), "key": key}))
        return job

    def finish(self, key: str, *, attempt: int = 1, recorded: bytes = b"picture", stored: bytes = b"picture") -> UUID:
        """A job that succeeded, with what is recorded and what is stored as given; ``stored`` empty: nothing."""
        job = self.accept(key)
        image = picture(job, attempt, recorded)
        if stored:
            self.objects.put(str(image.key), stored, "image/png")
        succeed(self.engine, claimed(self.engine), [image], recipe={}, timings={})
        return job

    def do(self, statement: str, job: UUID) -> None:
        with transaction(self.engine) as connection:
            connection.execute(text(statement), {"job": job})

    def report(self) -> Report:
        return check(self.engine, self.objects, self.log)


def picture(job: UUID, attempt: int, data: bytes) -> StoredImage:
    return replace(PICTURE, key=f"images/{job.hex}/{attempt}/0.png", sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture
def scene(services: Services, database_url: str) -> Iterator[Scene]:
    objects = make_objects(services, bucket=f"checked-{uuid4().hex[:8]}")
    objects.ensure_bucket()
    engine = make_engine(database_url, name="kiln-test", pool_size=2)
    yield Scene(engine, objects)
    engine.dispose()


def test_nothing_is_reported_where_every_promise_was_kept(scene: Scene) -> None:
    scene.finish("a")
    canceled = scene.accept("b")
    scene.do("UPDATE jobs SET status = 'canceled', finished_at = clock_timestamp() WHERE id = :job", canceled)
    scene.log.append(json.dumps({"canceled": show_id("job", canceled)}))
    assert scene.report() == Report(2, 2, 1, 0, 0, 0, 0, None, None, 1.0, ())


def test_a_job_that_is_not_over_and_one_that_is_gone_are_lost(scene: Scene) -> None:
    scene.accept("waiting")
    scene.do("DELETE FROM jobs WHERE id = :job", scene.accept("gone"))
    assert (scene.report().lost, scene.report().passed) == (2, False)


def test_one_key_with_two_jobs_is_a_double(scene: Scene) -> None:
    scene.finish("a")
    second = scene.finish("b")
    scene.log[2:] = [json.dumps({"asked": "b"}), json.dumps({"accepted": show_id("job", second), "key": "a"})]
    assert scene.report().duplicated == 1


def test_pictures_of_two_attempts_are_a_double(scene: Scene) -> None:
    job = scene.finish("a")
    scene.do(
        "INSERT INTO images SELECT job_id, 1, gen_random_uuid(), seed, width, height, clip_score, kept,"
        " replace(key, '/1/0', '/2/1'), thumbnail_key, content_type, bytes, sha256 FROM images WHERE job_id = :job",
        job,
    )
    assert (scene.report().duplicated, scene.report().unexpected) == (1, 1)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        ({"attempt": 2}, "not of the attempt that won"),
        ({"stored": b"other"}, "other bytes than recorded"),
        ({"stored": b""}, "is not there"),
    ],
)
def test_a_picture_that_is_not_the_recorded_one_is_unexpected(
    scene: Scene, harm: dict[str, object], sentence: str
) -> None:
    scene.finish("a", **harm)  # type: ignore[arg-type]
    report = scene.report()
    assert report.unexpected == 1
    assert sentence in report.violations[0]


def test_a_success_without_its_pictures_is_unexpected(scene: Scene) -> None:
    scene.do("DELETE FROM images WHERE job_id = :job", scene.finish("a"))
    assert "succeeded with 0 of 1 pictures" in scene.report().violations[0]


def test_a_cancel_that_nobody_asked_for_is_unexpected(scene: Scene) -> None:
    scene.do("UPDATE jobs SET status = 'canceled', finished_at = clock_timestamp() WHERE id = :job", scene.accept("a"))
    assert scene.report().unexpected == 1


def test_a_job_that_nobody_asked_for_is_unexpected(scene: Scene) -> None:
    scene.finish("a")
    scene.log.clear()
    assert "was never asked for" in scene.report().violations[0]


@pytest.mark.parametrize(
    ("states", "counted"),
    [(["queued"], (0, 2)), (["succeeded"], (1, 1)), (["queued", "running", "succeeded"], (1, 1))],
)
def test_a_history_that_goes_on_after_its_end_is_seen(
    scene: Scene, states: list[str], counted: tuple[int, int]
) -> None:
    job, before = scene.finish("a"), "succeeded"
    insert = "INSERT INTO events (job_id, attempt, from_status, to_status) VALUES (:job, 2, '{}', '{}')"
    for state in states:
        scene.do(insert.format(before, state), job)
        before = state
    report = scene.report()
    assert (report.duplicated, report.unexpected) == counted, report.violations


def test_the_time_until_a_lost_attempt_is_made_good_is_told(scene: Scene) -> None:
    scene.accept("a")
    lost = claimed(scene.engine)
    scene.do("UPDATE jobs SET not_before = clock_timestamp()", lost.job_id)
    park(scene.engine, lost)
    again = claimed(scene.engine)
    image = picture(again.job_id, 2, b"picture")
    scene.objects.put(str(image.key), b"picture", "image/png")
    succeed(scene.engine, again, [image], recipe={}, timings={})
    report = scene.report()
    assert report.passed, report.violations
    assert (report.recovered, report.attempts_per_success) == (1, 2.0)
    assert report.recovery_p50 is not None
    assert report.recovery_p50 == report.recovery_p99
