"""The line that the claim walks: who stands in it, who comes into it as time passes, and that nobody else is met."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from common.db import transaction
from common.errors import StorageError
from common.jobs import lease
from common.jobs.batch import NewBatch, submit_batch
from common.jobs.claim import Claim
from common.jobs.owner import cancel_job
from common.jobs.state import Lane
from common.jobs.steer import pause_batch, resume_batch
from common.jobs.sweep import line_up_due
from tests.jobs.make import claim, claimed, let_pauses_pass, submission, submit
from tests.processes import wait_for

LATER = timedelta(hours=1)


def in_line(engine: Engine) -> int:
    with transaction(engine) as connection:
        return connection.execute(text("SELECT count(*) FROM jobs WHERE due")).scalar_one()


def test_a_job_stands_in_line_from_its_submission_until_it_is_claimed(engine: Engine) -> None:
    submit(engine)
    assert in_line(engine) == 1
    claimed(engine)
    assert in_line(engine) == 0


def test_a_job_of_later_stands_in_line_when_its_time_has_come_without_any_sweeper(engine: Engine) -> None:
    job_id = submit(engine, not_before=datetime.now(UTC) + timedelta(seconds=1))
    assert (in_line(engine), claim(engine)) == (0, None)
    wait_for("claim", lambda: (taken := claim(engine)) is not None and taken.job_id == job_id, seconds=30)


@pytest.mark.parametrize(
    "end",
    [
        lambda engine, taken: lease.park(engine, taken),
        lambda engine, taken: lease.retry(engine, taken, StorageError("away"), max_failures=4),
    ],
    ids=["parked", "retried"],
)
def test_a_job_that_came_back_is_claimed_again(engine: Engine, end: Callable[[Engine, Claim], object]) -> None:
    submit(engine)
    end(engine, claimed(engine))
    let_pauses_pass(engine)
    assert claimed(engine).attempt == 2


def test_a_canceled_job_leaves_the_line(engine: Engine) -> None:
    cancel_job(engine, "ann", submit(engine))
    assert in_line(engine) == 0


def test_a_paused_batch_leaves_the_line_and_comes_back_whole(engine: Engine) -> None:
    jobs = [submission(lane=Lane.BATCH, seed=seed) for seed in range(3)]
    batch = submit_batch(engine, NewBatch("ann", "night", "f"), jobs, max_queued=9, max_queued_per_owner=9)
    assert in_line(engine) == 3
    pause_batch(engine, "ann", batch.batch_id)
    assert (in_line(engine), claim(engine)) == (0, None)
    resume_batch(engine, "ann", batch.batch_id)
    assert (line_up_due(engine), in_line(engine)) == (3, 3)


@pytest.mark.parametrize("mark", [True, False])
def test_a_wrong_mark_cannot_be_written(engine: Engine, mark: bool) -> None:
    submit(engine)
    submit(engine, not_before=datetime.now(UTC) + LATER)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET due = :mark"), {"mark": mark})
        assert connection.execute(text("SELECT due FROM jobs ORDER BY not_before")).scalars().all() == [True, False]


def test_of_jobs_whose_time_comes_together_the_first_in_line_starts_first_however_many_they_are(
    engine: Engine,
) -> None:
    opens = datetime.now(UTC) + LATER
    for _ in range(150):  # more than one claim lines up
        submit(engine, not_before=opens)
    urgent = submit(engine, not_before=opens, priority=1)
    with transaction(engine) as connection:
        time_comes(connection)
    assert claimed(engine).job_id == urgent


def test_the_sweeper_lines_up_all_that_is_due_and_nothing_else(engine: Engine) -> None:
    for _ in range(3):
        submit(engine, not_before=datetime.now(UTC) + LATER)
    with transaction(engine) as connection:
        time_comes(connection)
    submit(engine, not_before=datetime.now(UTC) + LATER)
    assert (line_up_due(engine), in_line(engine), line_up_due(engine)) == (3, 3, 0)


def time_comes(connection: Connection) -> None:
    """For all that wait, in the same instant; and no trigger notices."""
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    connection.execute(text("UPDATE jobs SET not_before = now() - interval '1 s'"))


COPIES = """
INSERT INTO jobs (id, owner, spec, spec_digest, model, metadata, fingerprint, lane, priority, turn, progress_total,
                  not_before, attempt, failures)
SELECT gen_random_uuid(), owner, spec, spec_digest, model, metadata, fingerprint, lane, priority, turn, progress_total,
       not_before, attempt, failures
FROM jobs CROSS JOIN generate_series(1, 1000) WHERE id = :id
"""


IN_FRONT: dict[str, dict[str, Any]] = {
    "later": {"not_before": datetime.now(UTC) + LATER},
    "of another model": {"model": "sd-v1-4"},
    "in the other lane": {"lane": Lane.BATCH},
    "failed before": {},
}


@pytest.mark.parametrize("oldest", [False, True])
@pytest.mark.parametrize("who", IN_FRONT)
def test_the_claim_meets_no_job_that_it_may_not_take(engine: Engine, who: str, oldest: bool) -> None:
    """A thousand such jobs stand first in the order, and were submitted first."""
    crowd = submit(engine, priority=1000, **IN_FRONT[who])
    if who == "failed before":
        lease.retry(engine, claimed(engine), StorageError("away"), max_failures=9)
        let_pauses_pass(engine)
        line_up_due(engine)
    for job_id in (crowd, submit(engine)):
        with transaction(engine) as connection:
            connection.execute(text(COPIES), {"id": job_id})
    with transaction(engine) as connection:
        connection.execute(text("ANALYZE jobs"))
    plans = plans_of_a_claim(engine, oldest=oldest, lanes=[Lane.INTERACTIVE], suspects=False)
    assert sum(met(plan) for plan in plans) <= 10


def plans_of_a_claim(engine: Engine, **options: Any) -> list[dict[str, Any]]:
    """What PostgreSQL did for each statement of a claim."""
    plans: list[dict[str, Any]] = []

    def explain(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        with connection.connection.cursor() as asked:
            asked.execute("SAVEPOINT before")
            asked.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            plans.append(asked.fetchone()[0][0]["Plan"])
            asked.execute("ROLLBACK TO before")

    event.listen(engine, "before_cursor_execute", explain)
    claimed(engine, **options)
    event.remove(engine, "before_cursor_execute", explain)
    assert plans
    return plans


def met(plan: dict[str, Any]) -> int:
    """Rows that were read from the table, used or not."""
    read = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return int(read) + sum(met(part) for part in plan.get("Plans", ()))
