"""How an attempt ended, written down: one write for each outcome, against a real database and a real bucket."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from common.db import transaction
from common.errors import (
    DeviceLost,
    JobCanceled,
    LeaseLost,
    NoProgress,
    NotFound,
    NumericalError,
    OutOfTime,
    StorageError,
    WorkerDraining,
)
from common.jobs.charge import EXCUSES
from common.jobs.claim import Claim
from common.jobs.lease import StoredImage
from common.jobs.owner import cancel_job
from common.jobs.read import get_job
from common.jobs.sweep import return_expired
from common.local.services import Services
from tests.jobs.make import PICTURE, claim, claimed, let_leases_run_out, let_pauses_pass, submit
from tests.processes import wait_for
from tests.worker.outage import database_away
from worker.metrics import ATTEMPTS, FAILURES
from worker.settle import Broken, Finished, Outcome, Stopped, settle
from worker.workshop import Workshop

FINISHED = Finished((PICTURE,), {"seed": 1}, {"diffuse_ms": 7})
CANCELED, DRAINING, LOST = Stopped(JobCanceled()), Stopped(WorkerDraining()), Stopped(LeaseLost())
OVERDUE, IDLE, GIVEN_BACK = Stopped(OutOfTime()), Stopped(NoProgress()), Stopped(DeviceLost())
PASSING = Broken(StorageError("the bucket is away"), retryable=True)
LASTING = Broken(NumericalError("the latents became NaN"), retryable=False)


@pytest.fixture
def model() -> None:
    """No outcome needs one, and none is loaded."""


@dataclass(slots=True)
class Row:
    """A job's row, as far as an outcome changes it."""

    status: str
    failures: int
    code: str | None
    images: int


def row(engine: Engine, claim: Claim) -> Row:
    columns = (
        "SELECT status, failures, error ->> 'code' AS code,"
        " (SELECT count(*) FROM images WHERE job_id = jobs.id) AS images FROM jobs WHERE id = :id"
    )
    with transaction(engine) as connection:
        return Row(**connection.execute(text(columns), {"id": claim.job_id}).one()._mapping)


@pytest.mark.parametrize(
    ("outcome", "expected", "asked_to_cancel"),
    [
        (FINISHED, Row("succeeded", 0, None, 1), Row("canceled", 0, None, 0)),
        (CANCELED, Row("canceled", 0, None, 0), Row("canceled", 0, None, 0)),
        (DRAINING, Row("queued", 0, None, 0), Row("canceled", 0, None, 0)),
        (GIVEN_BACK, Row("queued", 0, None, 0), Row("canceled", 0, None, 0)),
        (LOST, Row("running", 0, None, 0), Row("running", 0, None, 0)),
        (PASSING, Row("queued", 1, None, 0), Row("canceled", 1, None, 0)),
        (LASTING, Row("failed", 1, "numerical_error", 0), Row("failed", 1, "numerical_error", 0)),
    ],
    ids=["finished", "canceled", "draining", "given back", "lost", "passing", "lasting"],
)
@pytest.mark.parametrize("canceling", [False, True], ids=["", "with a cancel asked for"])
def test_each_outcome_is_one_write(
    workshop: Workshop, outcome: Outcome, expected: Row, asked_to_cancel: Row, canceling: bool
) -> None:
    submit(workshop.engine)
    taken = claimed(workshop.engine)
    if canceling:
        cancel_job(workshop.engine, "ann", taken.job_id)

    with counted_writes(workshop.engine) as writes:
        settle(taken, outcome, workshop)

    assert row(workshop.engine, taken) == (asked_to_cancel if canceling else expected)
    assert len(writes) == (0 if outcome is LOST else 1)


@pytest.mark.parametrize(
    ("outcome", "ended", "failure"),
    [
        (FINISHED, "succeeded", None),
        (CANCELED, "canceled", None),
        (DRAINING, "parked", None),
        (OVERDUE, "parked", "job_deadline_passed"),
        (IDLE, "parked", "job_deadline_passed"),
        (GIVEN_BACK, "parked", "device_failed"),
        (LOST, "lost", None),
        (PASSING, "retried", "storage_unavailable"),
        (LASTING, "failed", "numerical_error"),
    ],
    ids=["finished", "canceled", "draining", "overdue", "idle", "given back", "lost", "passing", "lasting"],
)
def test_each_outcome_is_counted_once(workshop: Workshop, outcome: Outcome, ended: str, failure: str | None) -> None:
    """Alerts that stay silent over failing jobs."""
    submit(workshop.engine)
    before = counts()
    settle(claimed(workshop.engine), outcome, workshop)
    after = counts()
    assert {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)} == (
        {ended: 1} | ({failure: 1} if failure else {})
    )


def test_a_parked_job_is_due_at_once_and_one_with_an_error_after_a_pause(workshop: Workshop) -> None:
    submit(workshop.engine)
    settle(claimed(workshop.engine), PASSING, workshop)
    assert claim(workshop.engine) is None

    let_pauses_pass(workshop.engine)
    settle(claimed(workshop.engine), DRAINING, workshop)
    assert claimed(workshop.engine).attempt == 3


def test_errors_that_may_pass_end_the_job_once_its_failures_are_used_up(workshop: Workshop) -> None:
    submit(workshop.engine)
    for _ in range(workshop.settings.max_failures):
        let_pauses_pass(workshop.engine)
        taken = claimed(workshop.engine)
        settle(taken, PASSING, workshop)

    assert row(workshop.engine, taken) == Row("failed", workshop.settings.max_failures, "storage_unavailable", 0)


@pytest.mark.parametrize(("outcome", "code"), [(GIVEN_BACK, "device_failed"), (IDLE, "job_deadline_passed")])
def test_what_is_given_back_too_often_is_charged_and_fails(workshop: Workshop, outcome: Outcome, code: str) -> None:
    submit(workshop.engine)
    for _ in range(EXCUSES + workshop.settings.max_failures):
        let_pauses_pass(workshop.engine)
        taken = claimed(workshop.engine)
        settle(taken, outcome, workshop)

    assert row(workshop.engine, taken) == Row("failed", workshop.settings.max_failures, code, 0)


def test_a_job_whose_attempts_run_out_of_time_and_get_on_is_never_charged(workshop: Workshop) -> None:
    submit(workshop.engine)
    for _ in range(EXCUSES + workshop.settings.max_failures):
        taken = claimed(workshop.engine)
        settle(taken, OVERDUE, workshop)

    assert row(workshop.engine, taken) == Row("queued", 0, None, 0)


@pytest.mark.parametrize("outcome", [FINISHED, CANCELED, DRAINING, GIVEN_BACK, LOST, PASSING, LASTING])
def test_a_late_outcome_of_a_lost_lease_changes_nothing(workshop: Workshop, outcome: Outcome) -> None:
    submit(workshop.engine)
    late = claimed(workshop.engine, "w1")
    let_leases_run_out(workshop.engine)
    assert return_expired(workshop.engine, lease_seconds=0, max_failures=4) == 1
    let_pauses_pass(workshop.engine)
    current = claimed(workshop.engine, "w2")
    before = get_job(workshop.engine, "ann", current.job_id)

    settle(late, outcome, workshop)

    assert get_job(workshop.engine, "ann", current.job_id) == before


def test_the_finish_tells_recipe_and_timings(workshop: Workshop) -> None:
    submit(workshop.engine)
    taken = claimed(workshop.engine)

    settle(taken, FINISHED, workshop)

    job = get_job(workshop.engine, "ann", taken.job_id)
    assert job is not None
    assert (job.recipe, job.timings) == (FINISHED.recipe, FINISHED.timings)


def test_the_finish_tells_the_texts_that_could_not_be_told_before(workshop: Workshop) -> None:
    """The database was away from the first stage to the last."""
    submit(workshop.engine)
    taken = claimed(workshop.engine)
    texts = {"styled_prompt": "film still of x", "enhanced_prompt": "film still of x, vivid"}

    settle(taken, replace(FINISHED, recipe=texts), workshop)

    job = get_job(workshop.engine, "ann", taken.job_id)
    assert job is not None
    assert {"styled_prompt": job.styled_prompt, "enhanced_prompt": job.enhanced_prompt} == texts


def test_a_cancel_in_the_last_moment_removes_the_objects_that_were_stored(workshop: Workshop) -> None:
    kept = replace(PICTURE, index=1, seed=2, key="last/0.png", thumbnail_key="last/0.thumb.webp")
    dropped = StoredImage(index=0, seed=1, width=64, height=64, clip_score=1.0)
    others = "last/1.png"
    for key in ("last/0.png", "last/0.thumb.webp", others):
        workshop.objects.put(key, b"x", "image/png")
    submit(workshop.engine)
    taken = claimed(workshop.engine)
    cancel_job(workshop.engine, "ann", taken.job_id)

    settle(taken, replace(FINISHED, stored=(dropped, kept)), workshop)

    assert row(workshop.engine, taken) == Row("canceled", 0, None, 0)
    assert b"".join(workshop.objects.open(others)) == b"x"
    for key in ("last/0.png", "last/0.thumb.webp"):
        with pytest.raises(NotFound):
            workshop.objects.open(key)


def test_the_objects_of_a_success_stay(workshop: Workshop) -> None:
    for key in (PICTURE.key, PICTURE.thumbnail_key):
        assert key is not None
        workshop.objects.put(key, b"x", "image/png")
    submit(workshop.engine)

    settle(claimed(workshop.engine), FINISHED, workshop)

    assert b"".join(workshop.objects.open(str(PICTURE.key))) == b"x"


@pytest.mark.parametrize("outcome", [FINISHED, LASTING], ids=["finished", "failed"])
def test_an_outcome_waits_for_a_database_that_is_away(workshop: Workshop, services: Services, outcome: Outcome) -> None:
    submit(workshop.engine)
    taken = claimed(workshop.engine)
    settling = threading.Thread(target=settle, args=(taken, outcome, workshop))

    with counted_errors(workshop.engine) as errors:
        with database_away(workshop.engine, services):
            settling.start()
            wait_for("second attempt", lambda: len(errors) > 1)
            assert settling.is_alive()
        settling.join(timeout=20)

    assert not settling.is_alive()
    assert row(workshop.engine, taken).status in ("succeeded", "failed")


def counts() -> dict[str, float]:
    """What Prometheus would read: attempts by how they ended, and failures by their code."""
    return {
        next(iter(sample.labels.values())): sample.value
        for counter in (ATTEMPTS, FAILURES)
        for family in counter.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }


@contextmanager
def counted_writes(engine: Engine) -> Iterator[list[str]]:
    """The statements of the block that change jobs."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE jobs"):
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def counted_errors(engine: Engine) -> Iterator[list[object]]:
    """What went wrong with the database in the block."""
    seen: list[object] = []

    def note(context: object) -> None:
        seen.append(context)

    event.listen(engine, "handle_error", note)
    try:
        yield seen
    finally:
        event.remove(engine, "handle_error", note)
