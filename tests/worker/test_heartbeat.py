"""Signs of life: leases that last, news of lost ones, the worker's entry, and the end of a worker that is stuck."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from common.db import transaction
from common.errors import LeaseLost
from common.jobs.claim import Claim
from common.jobs.sweep import return_expired
from common.jobs.workers import Worker, list_workers
from common.local.services import Services
from tests.jobs.make import claimed, let_leases_run_out, let_pauses_pass, submit
from tests.processes import changed, environment, wait_for
from tests.worker.conftest import hold_claim
from tests.worker.outage import database_away
from worker.diffusion.device import Device, Figures
from worker.diffusion.slots import Width
from worker.heartbeat import STALLED_EXIT_CODE, Heartbeat
from worker.hold import Hold
from worker.workshop import Workshop, open_workshop


@pytest.fixture
def workshop(workshop: Workshop) -> Workshop:
    """One whose heart beats twenty times a second."""
    workshop.settings = changed(workshop.settings, heartbeat_seconds=0.05)
    return workshop


def entry(workshop: Workshop) -> Worker | None:
    return next((one for one in list_workers(workshop.engine, alive_seconds=60) if one.id == workshop.id), None)


def seen_at(workshop: Workshop) -> datetime:
    worker = entry(workshop)
    assert worker is not None
    return worker.seen_at


def pace(workshop: Workshop) -> float | None:
    worker = entry(workshop)
    return worker.evaluations_per_second if worker else None


def figures(workshop: Workshop) -> Mapping[str, Any]:
    worker = entry(workshop)
    assert worker is not None
    return worker.figures


def runs_out_at(engine: Engine, claim: Claim) -> datetime:
    with transaction(engine) as connection:
        asked = text("SELECT lease_expires_at FROM jobs WHERE id = :id")
        found: datetime = connection.execute(asked, {"id": claim.job_id}).scalar_one()
        return found


def test_a_lease_lasts_as_long_as_its_job_is_in_hand(workshop: Workshop) -> None:
    submit(workshop.engine), submit(workshop.engine)
    held, other = claimed(workshop.engine, lease_seconds=30), claimed(workshop.engine, lease_seconds=30)
    first, others = runs_out_at(workshop.engine, held), runs_out_at(workshop.engine, other)

    with beating(workshop):
        with workshop.hold(held):
            beats_on(workshop)
        last = runs_out_at(workshop.engine, held)
        beats_on(workshop)

    assert last > first
    assert runs_out_at(workshop.engine, held) == last
    assert runs_out_at(workshop.engine, other) == others


def test_a_lease_lost_in_the_database_reaches_the_jobs_next_step(workshop: Workshop, dead_engine: Engine) -> None:
    submit(workshop.engine), submit(workshop.engine)
    lost = cut_off(workshop, dead_engine)
    let_leases_run_out(workshop.engine)
    assert return_expired(workshop.engine, lease_seconds=0, max_failures=4) == 1
    kept = cut_off(workshop, dead_engine)
    lost.step(1)

    with beating(workshop):
        wait_for("news of the lost lease", lambda: stops(lost), seconds=10)
        kept.step(1)


def test_a_lease_that_ran_out_and_was_not_taken_is_kept(workshop: Workshop, dead_engine: Engine) -> None:
    submit(workshop.engine)
    hold = cut_off(workshop, dead_engine)
    let_leases_run_out(workshop.engine)

    with beating(workshop):
        beats_on(workshop)

    assert return_expired(workshop.engine, lease_seconds=0, max_failures=4) == 0
    hold.step(1)


def test_the_workers_entry_says_at_once_what_it_does_and_goes_with_it(workshop: Workshop) -> None:
    workshop.settings = changed(workshop.settings, heartbeat_seconds=60)
    heartbeat = Heartbeat(workshop)
    heartbeat.say("starting")
    starting = entry(workshop)
    assert starting is not None
    assert (starting.state, starting.models, starting.device, starting.seats) == ("starting", ("demo",), "cpu", 2)

    heartbeat.start()
    heartbeat.say("failed", "no weights")
    wait_for(
        "new state", lambda: (found := entry(workshop)) and (found.state, found.detail) == ("failed", "no weights")
    )

    heartbeat.stop()
    assert entry(workshop) is None


def test_the_pace_is_evaluations_per_busy_second_since_the_last_beat(workshop: Workshop) -> None:
    submit(workshop.engine)
    workshop.device = Device()
    heartbeat = Heartbeat(workshop)
    paces = []
    for evaluations, seconds in ((0, 0.0), (50, 4.0), (70, 5.0), (70, 5.0), (70, 9.0)):
        workshop.device.figures = Figures(evaluations=evaluations, tick_seconds=seconds)
        heartbeat.say("ready")  # not started: writes at once
        paces.append(pace(workshop))

    assert paces == [None, 12.5, 20, 20, 20], "what else keeps the device busy is no pace"


def test_each_beat_tells_what_the_engine_is_now(workshop: Workshop) -> None:
    workshop.device = Device(Width(4, exact=False))
    with beating(workshop):
        told = []
        for slots in (4, 2):  # as after memory ran out
            workshop.device.width = Width(slots, exact=False)
            wait_for("news of the width", lambda: figures(workshop)["slots"] == slots, seconds=10)  # noqa: B023
            told.append(figures(workshop))
    workshop.device.close()

    assert told == [{"engine_mode": "fast", "slots": slots, "slots_used": 0, "pictures": 0} for slots in (4, 2)]


def test_a_device_that_waits_for_a_job_in_hand_does_not_wait_for_want_of_jobs(workshop: Workshop) -> None:
    opened = open_workshop(workshop.settings)
    idle = opened.device.figures.idle_seconds
    submit(workshop.engine)
    wait_for("idle time", lambda: idle["no_jobs"] > 0, seconds=10)
    assert idle["between_stages"] == 0

    with opened.hold(claimed(workshop.engine)):
        wait_for("idle time of a job", lambda: idle["between_stages"] > 0, seconds=10)

    opened.device.close()
    opened.engine.dispose()


def test_the_heart_beats_on_after_the_database_was_away(workshop: Workshop, services: Services) -> None:
    with capture_logs() as logs, beating(workshop):
        with database_away(workshop.engine, services):
            wait_for("a beat in vain", lambda: told(logs, "worker entry not renewed"), seconds=10)
        beats_on(workshop)


def test_the_heart_beats_on_after_any_error_of_the_database(workshop: Workshop) -> None:
    """A server that fails over is read-only for a while: an error, but none of those that mean 'away'."""
    with capture_logs() as logs, beating(workshop):
        rename(workshop.engine, "workers", "hidden")
        wait_for("a beat in vain", lambda: told(logs, "no sign of life"), seconds=10)
        rename(workshop.engine, "hidden", "workers")
        beats_on(workshop)


STUCK = """
import threading
from common.jobs.claim import claim_job
from common.settings import Settings, read_settings
from common.telemetry import configure_logging
from worker.heartbeat import Heartbeat
from worker.workshop import open_workshop

configure_logging("info", "console")
workshop = open_workshop(read_settings(Settings))
claim = claim_job(workshop.engine, worker=workshop.id, models=["demo"], lease_seconds=60, job_seconds=60)
with workshop.hold(claim):
    Heartbeat(workshop).start()
    workshop.device.run(lambda: threading.Event().wait())
"""


def test_a_worker_whose_device_is_stuck_ends_and_its_job_returns(workshop: Workshop) -> None:
    job_id = submit(workshop.engine)
    settings = changed(workshop.settings, tick_timeout=0.3, heartbeat_seconds=0.1)

    ended = subprocess.run(
        [sys.executable, "-c", STUCK], env=environment(settings), capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == STALLED_EXIT_CODE == 70, ended.stderr
    assert "no progress" in ended.stderr
    let_leases_run_out(workshop.engine)
    assert return_expired(workshop.engine, lease_seconds=0, max_failures=4) == 1
    let_pauses_pass(workshop.engine)
    assert claimed(workshop.engine).job_id == job_id


@contextmanager
def beating(workshop: Workshop) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(workshop)
    heartbeat.say("ready")
    heartbeat.start()
    try:
        yield heartbeat
    finally:
        heartbeat.stop()


def told(logs: Sequence[MutableMapping[str, Any]], words: str) -> bool:
    return any(words in line["event"] for line in list(logs))


def rename(engine: Engine, table: str, name: str) -> None:
    with transaction(engine) as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


def stops(hold: Hold) -> bool:
    """Its next step raises LeaseLost."""
    try:
        hold.step(1)
    except LeaseLost:
        return True
    return False


def cut_off(workshop: Workshop, dead_engine: Engine) -> Hold:
    """A hold that hears of the database through the heartbeat alone."""
    hold = hold_claim(dead_engine, claimed(workshop.engine), workshop.draining)
    workshop.holds[hold] = None
    return hold


def beats_on(workshop: Workshop) -> None:
    """Two more beats have begun and ended."""
    for _ in range(2):
        last = seen_at(workshop)
        wait_for("beat", lambda: seen_at(workshop) > last, seconds=10)  # noqa: B023
