"""The event log: every change of state is in it, whoever made it, and nobody rewrites it."""

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError

from common.db import reading, transaction
from common.jobs import lease
from common.jobs.owner import delete_job
from common.jobs.sweep import return_expired
from common.jobs.tables import events
from tests.jobs.make import PICTURE, claimed, let_leases_run_out, let_pauses_pass, submit

Line = tuple[int, str | None, str, str | None]


def log_of(engine: Engine) -> list[Line]:
    wanted = select(events.c.attempt, events.c.from_status, events.c.to_status, events.c.worker).order_by(events.c.id)
    with reading(engine) as connection:
        return [(line.attempt, line.from_status, line.to_status, line.worker) for line in connection.execute(wanted)]


def test_each_change_of_state_is_one_line_with_its_attempt_and_worker(engine: Engine) -> None:
    submit(engine)
    claimed(engine, "w1")
    let_leases_run_out(engine)
    assert return_expired(engine, lease_seconds=0, max_failures=4) == 1
    let_pauses_pass(engine)
    lease.succeed(engine, claimed(engine, "w2"), [PICTURE], recipe={}, timings={})

    assert log_of(engine) == [
        (0, None, "queued", None),
        (1, "queued", "running", "w1"),
        (1, "running", "queued", "w1"),
        (2, "queued", "running", "w2"),
        (2, "running", "succeeded", "w2"),
    ]


def test_a_change_that_is_rolled_back_leaves_no_line(engine: Engine) -> None:
    submit(engine)
    with pytest.raises(ZeroDivisionError):
        cancel_and_fall(engine)
    assert log_of(engine) == [(0, None, "queued", None)]


def cancel_and_fall(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET status = 'canceled', finished_at = clock_timestamp()"))
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "forgery", ["UPDATE events SET to_status = 'succeeded'", "DELETE FROM events", "TRUNCATE events"]
)
def test_no_line_is_changed_or_removed_while_its_job_stands(engine: Engine, forgery: str) -> None:
    submit(engine)
    with pytest.raises(IntegrityError, match="only added"), transaction(engine) as connection:
        connection.execute(text(forgery))
    assert log_of(engine) == [(0, None, "queued", None)]


def test_a_deleted_job_takes_its_lines_along_and_no_others(engine: Engine) -> None:
    gone = submit(engine)
    lease.succeed(engine, claimed(engine), [PICTURE], recipe={}, timings={})
    submit(engine)
    delete_job(engine, "ann", gone)
    assert log_of(engine) == [(0, None, "queued", None)]


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled", "expired"])
def test_no_statement_leaves_a_terminal_state(engine: Engine, end: str) -> None:
    submit(engine)
    if end in ("succeeded", "failed"):
        claimed(engine)
    with transaction(engine) as connection:
        connection.execute(
            text(
                "UPDATE jobs SET status = :end, finished_at = clock_timestamp(), error = '{}',"
                " lease_token = NULL, lease_expires_at = NULL"
            ),
            {"end": end},
        )
    for status in ("queued", "running", "succeeded"):
        with pytest.raises(IntegrityError, match="changes no more"), transaction(engine) as connection:
            connection.execute(text("UPDATE jobs SET status = :status, finished_at = NULL"), {"status": status})
