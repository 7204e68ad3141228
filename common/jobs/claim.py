"""The claim: a worker's name in, the next job that is due and the token to write with out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, Row, func, select, update

from common.db import transaction
from common.jobs.spec import JobSpec
from common.jobs.state import Lane, Status
from common.jobs.tables import INSTANT, LINE, batches, is_queued, jobs

_LINED_UP = 100  # by one claim at most: some milliseconds
# Jobs of a batch that was paused or canceled may not have been told yet. Not EXISTS, which the planner might turn into
# a join with all that waits
_goes_on = (
    select(batches.c.paused_at.is_(None) & batches.c.canceled_at.is_(None))
    .where(batches.c.id == jobs.c.batch_id)
    .scalar_subquery()
)
_TAKEN = [jobs.c[name] for name in ("id", "attempt", "spec", "lane", "priority", "failures", "owner", "batch_id")]


@dataclass(frozen=True, slots=True)
class Claim:
    """A job this worker holds: which one, which attempt, and the token that every later write must show."""

    job_id: UUID
    attempt: int
    token: UUID
    spec: JobSpec
    lane: Lane
    priority: int
    failures: int  # of earlier attempts
    owner: str
    batch_id: UUID | None


def claim_job(
    engine: Engine,
    *,
    worker: str,
    models: Sequence[str],
    lanes: Sequence[Lane] = tuple(Lane),
    lease_seconds: float,
    job_seconds: float,
    oldest: bool = False,
    suspects: bool = True,
) -> Claim | None:
    """Take the next job that is due, or None. In one statement, in which rivals skip each other's locked rows.

    The order is lane, priority, turn. With ``oldest`` the job that was submitted first goes first instead:
    claimed so now and then, no job starves behind an endless stream of more urgent ones. Without ``suspects`` nothing
    is taken where it is the turn of a job that has failed before: so who waits for it is free for it at last.
    """
    token, clock = uuid4(), func.clock_timestamp()
    first = (
        select(jobs.c.id)
        .where(
            jobs.c.due,
            jobs.c.not_before <= clock,
            func.coalesce(jobs.c.deadline > clock, True) | (jobs.c.attempt > 0),  # in time, or begun in time
            jobs.c.model.in_(models),
            jobs.c.lane.in_(lanes),
            func.coalesce(_goes_on, True),
        )
        .order_by(*([jobs.c.id] if oldest else LINE))
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("first")
    )
    statement = (
        update(jobs)
        .where(jobs.c.id == first.c.id, jobs.c.due, *([] if suspects else [jobs.c.failures == 0]))
        .values(
            status=Status.RUNNING,
            attempt=jobs.c.attempt + 1,
            lease_token=token,
            lease_expires_at=clock + timedelta(seconds=lease_seconds),
            run_deadline_at=clock + timedelta(seconds=job_seconds),
            worker=worker,
            started_at=clock,
            stage=None,
            progress_done=0,
        )
        .returning(*_TAKEN)
    )
    with transaction(engine) as connection:
        line_up(connection, _LINED_UP)
        row = connection.execute(statement).one_or_none()
    return _as_claim(row, token) if row else None


def line_up(connection: Connection, limit: int) -> int:
    """Mark up to ``limit`` jobs as due whose time has come, those first that may start first; returns how many.

    Where there is none it is one look into an index, whatever waits: so a claim depends on no sweeper. A rival that
    comes meanwhile steps over them: it may find nothing, and has to look again.
    """
    come = (
        select(jobs.c.id)
        .where(is_queued, ~jobs.c.due, jobs.c.not_before <= INSTANT)
        .order_by(jobs.c.not_before, *LINE)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("come")
    )
    return connection.execute(update(jobs).where(jobs.c.id == come.c.id).values(due=True)).rowcount


def _as_claim(row: Row[Any], token: UUID) -> Claim:
    return Claim(
        job_id=row.id,
        attempt=row.attempt,
        token=token,
        spec=JobSpec.from_json(row.spec),
        lane=Lane(row.lane),
        priority=row.priority,
        failures=row.failures,
        owner=row.owner,
        batch_id=row.batch_id,
    )
