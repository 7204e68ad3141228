"""What settling tells: the state the job is in by then, and one line in the log that an operator can search for."""

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from common.errors import OutOfTime
from common.jobs.owner import cancel_job
from common.objects import Objects
from tests.jobs.make import claimed, submit
from tests.processes import changed
from tests.worker.test_settle import CANCELED, DRAINING, FINISHED, LASTING, LOST, PASSING, row
from worker import settle as settle_module
from worker.settle import Outcome, Stopped, settle
from worker.workshop import Workshop


@pytest.fixture
def model() -> None:
    """No outcome needs one, and none is loaded."""


@pytest.mark.parametrize(
    ("outcome", "canceling", "status", "line"),
    [
        (FINISHED, False, "succeeded", {"event": "job ended", "status": "succeeded", "diffuse_ms": 7}),
        (FINISHED, True, "canceled", {"event": "job ended", "status": "canceled", "diffuse_ms": 7}),
        (CANCELED, False, "canceled", {"event": "job canceled"}),
        (DRAINING, False, "queued", {"event": "job parked", "why": "WorkerDraining"}),
        (Stopped(OutOfTime()), False, "queued", {"event": "job parked", "why": "OutOfTime"}),
        (LOST, False, None, {"event": "lease lost: the result is not written", "log_level": "warning"}),
        (
            PASSING,
            False,
            "queued",
            {
                "event": "attempt failed",
                "status": "queued",
                "code": "storage_unavailable",
                "reason": "the bucket is away",
                "exc_info": None,
                "log_level": "warning",
            },
        ),
        (
            LASTING,
            False,
            "failed",
            {
                "event": "job failed",
                "code": "numerical_error",
                "reason": "the latents became NaN",
                "log_level": "warning",
            },
        ),
    ],
    ids=["finished", "canceled at last", "canceled", "draining", "overdue", "lost", "passing", "lasting"],
)
def test_each_outcome_is_one_state_and_one_line_in_the_log(
    workshop: Workshop, outcome: Outcome, canceling: bool, status: str | None, line: dict[str, Any]
) -> None:
    submit(workshop.engine)
    taken = claimed(workshop.engine)
    if canceling:
        cancel_job(workshop.engine, "ann", taken.job_id)
    with capture_logs() as logs:
        assert settle(taken, outcome, workshop) == status
    assert logs == [{"log_level": "info"} | line]


def test_a_fault_of_ours_is_logged_with_its_traceback(workshop: Workshop) -> None:
    submit(workshop.engine)
    cause = ZeroDivisionError("of ours")
    with capture_logs() as logs:
        settle(claimed(workshop.engine), replace(PASSING, cause=cause), workshop)
    assert logs[0]["exc_info"] is cause


def test_a_canceled_job_is_canceled_also_where_its_objects_cannot_be_removed(workshop: Workshop) -> None:
    gone = changed(workshop.settings, s3_endpoint_url="http://127.0.0.1:9", s3_public_url="")
    workshop.objects = Objects.from_settings(gone)
    submit(workshop.engine)
    taken = claimed(workshop.engine)
    cancel_job(workshop.engine, "ann", taken.job_id)

    with capture_logs() as logs:
        settle(taken, FINISHED, workshop)

    assert row(workshop.engine, taken).status == "canceled"
    left = {"event": "objects of a canceled job were left behind", "log_level": "warning"}
    assert left in logs


def test_a_database_that_stays_away_is_given_up_where_the_worker_is_to_stop(
    workshop: Workshop, dead_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle_module, "DRAIN_SECONDS", 0.5)
    submit(workshop.engine)
    taken = claimed(workshop.engine)
    workshop.engine, working = dead_engine, workshop.engine
    threading.Timer(2, workshop.draining.set).start()

    began = time.monotonic()
    with capture_logs() as logs:
        assert settle(taken, FINISHED, workshop) is None

    assert time.monotonic() - began >= 2, "as long as it takes, is how long it is to be waited for"
    stayed_away = "result not written: the database stayed away; the sweep will return the job"
    assert logs == [{"event": stayed_away, "log_level": "error"}]
    assert row(working, taken).status == "running"
