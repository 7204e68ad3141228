"""Owners take turns, whatever else waits: what takes no part in the service changes nobody's place."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from common.db import transaction
from common.errors import StorageError
from common.jobs import lease
from common.jobs.batch import NewBatch, submit_batch
from common.jobs.claim import Claim
from common.jobs.line import line_up
from common.jobs.state import Lane
from common.jobs.steer import pause_batch, resume_batch
from common.jobs.sweep import line_up_due
from common.jobs.window import Window
from tests.jobs.make import claimed, let_pauses_pass, submission, submit

LATER = datetime(2999, 1, 1, tzinfo=UTC)


def served(engine: Engine, count: int, **changes: object) -> str:
    """The owners' initials, in the order in which their jobs are claimed."""
    return "".join(claimed(engine, **changes).owner[0] for _ in range(count))


def fail(engine: Engine, taken: Claim) -> None:
    lease.retry(engine, taken, StorageError("away"), max_failures=9)


def make_batch(engine: Engine, owner: str, count: int, window: Window | None = None) -> UUID:
    asked = [submission(owner, lane=Lane.BATCH, seed=seed) for seed in range(count)]
    batch = NewBatch(owner, "night", "f", window=window)
    return submit_batch(engine, batch, asked, max_queued=10_000, max_queued_per_owner=10_000).batch_id


def closed_now() -> Window:
    """A window that opens in about two hours."""
    opens = datetime.now(UTC) + timedelta(hours=2)
    return Window(opens.time(), (opens + timedelta(hours=1)).time(), ZoneInfo("UTC"))


def window_opens(engine: Engine) -> None:
    """In time, which no trigger notices."""
    with transaction(engine) as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text("UPDATE jobs SET not_before = now() - interval '1 s' WHERE status = 'queued' AND NOT due")
        )


ASIDE: dict[str, Callable[[Engine], object]] = {
    "not due for a thousand years": lambda engine: submit(engine, "cid", not_before=LATER),
    "of a model that nobody serves": lambda engine: submit(engine, "cid", model="sd-v1-4"),
    "less urgent": lambda engine: submit(engine, "cid", priority=-5),
    "in the other lane": lambda engine: submit(engine, "cid", lane=Lane.BATCH),
    "paused": lambda engine: pause_batch(engine, "cid", make_batch(engine, "cid", 1)),
    "failed before": lambda engine: (submit(engine, "cid"), fail(engine, claimed(engine)), let_pauses_pass(engine)),
    "back in line": lambda engine: (submit(engine, "cid"), lease.park(engine, claimed(engine))),
    "too late, with no sweeper about": lambda engine: (submit(engine, "cid", deadline=LATER), too_late(engine)),
}


def too_late(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET deadline = clock_timestamp() WHERE deadline IS NOT NULL"))


@pytest.mark.parametrize("aside", ASIDE)
def test_who_comes_later_takes_turns_with_those_who_wait_whoever_stands_aside(engine: Engine, aside: str) -> None:
    """The oldest fault: one job that is never claimed held the line at turn 0, and newcomers passed all who waited."""
    ASIDE[aside](engine)
    for _ in range(12):
        submit(engine, "ann")
    assert served(engine, 6, suspects=False).strip("c") in ("aaaaaa", "aaaaa")
    for _ in range(4):
        submit(engine, "bob")
    assert served(engine, 8, suspects=False).strip("c").startswith("ababab")


def test_a_batch_of_the_night_does_not_put_back_its_owners_jobs_of_the_day(engine: Engine) -> None:
    make_batch(engine, "ann", 50, closed_now())
    for _ in range(6):
        submit(engine, "bob", lane=Lane.BATCH)
    for _ in range(3):
        submit(engine, "ann", lane=Lane.BATCH)
    assert served(engine, 6) == "bababa"


def test_a_window_that_opens_passes_nobody_and_puts_nobody_back_however_often_it_is_lined_up(engine: Engine) -> None:
    make_batch(engine, "ann", 30, closed_now())
    for _ in range(40):
        submit(engine, "bob", lane=Lane.BATCH)
    assert served(engine, 20) == "b" * 20
    window_opens(engine)
    for _ in range(6):  # in chunks, whose turns follow each other
        with transaction(engine) as connection:
            assert line_up(connection, 5) == 5
    seeds, owners = [], ""
    for _ in range(50):
        taken = claimed(engine)
        owners += taken.owner[0]
        seeds += [taken.spec.seed] if taken.owner == "ann" else []
    assert owners == "ab" * 20 + "a" * 10
    assert seeds == list(range(30)), "in the order in which they were submitted"


def test_two_that_line_up_at_once_give_no_turn_twice(engine: Engine) -> None:
    make_batch(engine, "ann", 10, closed_now())
    for _ in range(10):
        submit(engine, "bob", lane=Lane.BATCH)
    window_opens(engine)
    with transaction(engine) as first, transaction(engine) as second:
        assert (line_up(first, 5, models=["demo"]), line_up(second, 5, models=["demo"])) == (5, 0)
    assert line_up_due(engine) == 5
    assert served(engine, 20) == "ab" * 10


def test_a_batch_that_is_resumed_comes_in_anew_but_what_it_had_begun_goes_on_first(engine: Engine) -> None:
    batch = make_batch(engine, "ann", 5)
    begun = claimed(engine)
    pause_batch(engine, "ann", batch)
    lease.park(engine, begun)
    for _ in range(8):
        submit(engine, "bob", lane=Lane.BATCH)
    assert served(engine, 4) == "bbbb"
    resume_batch(engine, "ann", batch)
    assert claimed(engine).job_id == begun.job_id
    assert served(engine, 8) == "abababab"


def test_a_batch_of_several_models_and_priorities_takes_its_turns_in_each(engine: Engine) -> None:
    for model, priority in [("demo", 0), ("demo", 3), ("other", 0)]:
        for _ in range(3):
            submit(engine, "bob", lane=Lane.BATCH, model=model, priority=priority)
    kinds = [("demo", 0), ("other", 0), ("demo", 3)] * 3
    asked = [submission("ann", lane=Lane.BATCH, model=model, priority=priority) for model, priority in kinds]
    submit_batch(engine, NewBatch("ann", "mixed", "f"), asked, max_queued=99, max_queued_per_owner=99)
    assert served(engine, 12) == "bababa" * 2
    assert served(engine, 6, models=["other"]) == "bababa"


def test_a_job_that_came_back_keeps_its_place_ahead(engine: Engine) -> None:
    submit(engine, "ann"), submit(engine, "ann")
    first = claimed(engine)
    for _ in range(3):
        submit(engine, "bob")
    lease.park(engine, first)
    assert claimed(engine).job_id == first.job_id
    fail(engine, first := claimed(engine))
    let_pauses_pass(engine)
    assert claimed(engine).job_id == first.job_id
