"""A job in a worker's hand: what it writes, and how soon it learns that it must stop."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from common.errors import JobCanceled, LeaseLost, NoProgress, OutOfTime, StorageError, WorkerDraining
from common.jobs.claim import Claim
from common.jobs.owner import cancel_job
from common.jobs.read import Job, get_job
from common.jobs.state import Stage
from common.local.services import Services
from tests.jobs.make import claimed, submit
from tests.processes import wait_for
from tests.worker.conftest import hold_claim
from tests.worker.outage import database_away
from worker import hold as hold_module
from worker.hold import Hold

ALWAYS, NEVER = 0, 1e9

each_pace = pytest.mark.parametrize("save_seconds", [ALWAYS, NEVER], ids=["saving", "only looking"])


@pytest.fixture(autouse=True)
def _pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``save_seconds`` a test says how often progress is written."""
    if "save_seconds" in request.fixturenames:
        monkeypatch.setattr(hold_module, "SAVE_SECONDS", request.getfixturevalue("save_seconds"))


@pytest.fixture
def claim(engine: Engine) -> Claim:
    submit(engine)
    return claimed(engine)


def taken_up(engine: Engine, claim: Claim) -> Hold:
    hold = hold_claim(engine, claim)
    hold.enter(Stage.DIFFUSE)
    return hold


def read(engine: Engine, claim: Claim) -> Job:
    job = get_job(engine, "ann", claim.job_id)
    assert job is not None
    return job


def test_a_stage_is_recorded_as_it_begins_with_the_texts_known_by_then(engine: Engine, claim: Claim) -> None:
    hold = hold_claim(engine, claim)

    hold.enter(Stage.DIFFUSE, {"styled_prompt": "film still of x", "enhanced_prompt": "film still of x, vivid"})

    job = read(engine, claim)
    assert (job.stage, job.styled_prompt, job.enhanced_prompt) == (
        "diffuse",
        "film still of x",
        "film still of x, vivid",
    )


@pytest.mark.parametrize(("save_seconds", "seen"), [(ALWAYS, [1, 2, 3]), (NEVER, [0, 0, 0])])
def test_progress_is_written_at_its_pace_and_by_the_next_stage_at_the_latest(
    engine: Engine, claim: Claim, save_seconds: float, seen: list[int]
) -> None:
    hold = taken_up(engine, claim)

    written = []
    for done in (1, 2, 3):
        hold.step(done)
        written.append(read(engine, claim).progress_done)
    hold.enter(Stage.SCORE)

    assert written == seen
    assert (read(engine, claim).progress_done, read(engine, claim).stage, hold.done) == (3, "score", 3)


@each_pace
def test_a_cancel_is_seen_at_the_very_next_step(engine: Engine, claim: Claim, save_seconds: float) -> None:
    hold = taken_up(engine, claim)
    hold.step(1)

    cancel_job(engine, "ann", claim.job_id)

    with pytest.raises(JobCanceled):
        hold.step(2)


def test_a_cancel_is_seen_by_the_next_stage(engine: Engine, claim: Claim) -> None:
    hold = taken_up(engine, claim)

    cancel_job(engine, "ann", claim.job_id)

    with pytest.raises(JobCanceled):
        hold.enter(Stage.STORE)


@each_pace
def test_another_jobs_cancel_is_none_of_its_business(engine: Engine, claim: Claim, save_seconds: float) -> None:
    submit(engine)
    cancel_job(engine, "ann", claimed(engine).job_id)

    taken_up(engine, claim).step(1)


@each_pace
def test_a_worker_that_drains_stops_at_the_next_step(engine: Engine, claim: Claim, save_seconds: float) -> None:
    draining = threading.Event()
    hold = hold_claim(engine, claim, draining)
    hold.enter(Stage.DIFFUSE)
    hold.step(1)

    draining.set()

    with pytest.raises(WorkerDraining):
        hold.step(2)


@each_pace
def test_a_lease_that_another_holds_stops_the_job_at_the_next_step(
    engine: Engine, claim: Claim, save_seconds: float
) -> None:
    taken_up(engine, claim)
    late = hold_claim(engine, replace(claim, token=uuid4()))

    with pytest.raises(LeaseLost):
        late.enter(Stage.DIFFUSE)
    with pytest.raises(LeaseLost):
        late.step(1)


@each_pace
def test_work_goes_on_while_the_database_is_away_and_still_heeds_its_own_worker(
    dead_engine: Engine, claim: Claim, save_seconds: float
) -> None:
    draining = threading.Event()
    hold = hold_claim(dead_engine, claim, draining)
    hold.enter(Stage.DIFFUSE)
    hold.step(1)
    hold.step(2)
    assert hold.done == 2

    hold.lose()
    with pytest.raises(LeaseLost):
        hold.step(3)
    draining.set()
    with pytest.raises(WorkerDraining):
        hold.step(3)


@each_pace
def test_an_attempt_that_lasts_too_long_is_given_back_at_its_next_step(
    engine: Engine, claim: Claim, save_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = taken_up(engine, claim)
    let_it_last(monkeypatch)
    with pytest.raises(OutOfTime):
        hold.step(1)


def test_an_attempt_that_lasts_too_long_without_a_step_may_be_the_jobs_fault_unless_it_waited(
    engine: Engine, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = taken_up(engine, claim)
    hold.look()
    let_it_last(monkeypatch)
    with pytest.raises(OutOfTime):
        hold.look()
    with pytest.raises(NoProgress):
        hold.enter(Stage.SCORE)
    with pytest.raises(OutOfTime):
        hold.insisting(refuse)()


def let_it_last(monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.monotonic() + 3601
    monkeypatch.setattr(hold_module, "time", SimpleNamespace(monotonic=lambda: later))


def refuse() -> None:
    raise StorageError("away")


def test_a_store_that_says_nothing_keeps_nobody_from_stopping(engine: Engine, claim: Claim) -> None:
    """A drain took as long as one try, and `kiln up` kills what has not stopped after 15 seconds."""
    silent = threading.Event()
    try:
        for stop, reason in ((Hold.lose, LeaseLost), (lambda hold: hold._draining.set(), WorkerDraining)):
            hold = taken_up(engine, claim)
            threading.Timer(0.2, stop, (hold,)).start()
            with pytest.raises(reason):
                hold.insisting(silent.wait)(60)
    finally:
        silent.set()


def test_texts_that_could_not_be_written_are_written_with_what_comes_next(
    engine: Engine, claim: Claim, services: Services
) -> None:
    hold = hold_claim(engine, claim)
    with database_away(engine, services):
        hold.enter(Stage.DIFFUSE, {"styled_prompt": "film still of x", "enhanced_prompt": "film still of x, vivid"})

    wait_for("database", lambda: not hold._wishes.outage._goes_on(), seconds=10)
    hold.enter(Stage.SCORE)

    job = read(engine, claim)
    assert (job.styled_prompt, job.enhanced_prompt) == ("film still of x", "film still of x, vivid")


def test_every_stage_is_timed(engine: Engine, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(hold_module, "time", SimpleNamespace(monotonic=lambda: now))
    hold = hold_claim(engine, claim)
    for stage, seconds in ((Stage.ENHANCE, 0.25), (Stage.DIFFUSE, 3.0), (Stage.SCORE, 0.5), (Stage.STORE, 0.125)):
        hold.enter(stage)
        now += seconds

    assert hold.timings() == {"enhance_ms": 250, "diffuse_ms": 3000, "score_ms": 500, "store_ms": 125}
