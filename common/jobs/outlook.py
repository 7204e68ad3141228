"""How the queue stands: what one job can expect, how many wait, and how long the oldest has. Reads only."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select, tuple_

from common.db import transaction
from common.jobs.read import Job
from common.jobs.state import Lane, Status
from common.jobs.tables import is_queued, is_running, jobs, workers
from common.jobs.workers import alive

_COUNTED_TO = 10_000  # an honest "10,000th or later" costs milliseconds, an exact millionth does not


@dataclass(frozen=True, slots=True)
class Outlook:
    """When a job can be expected: its place in line, seconds to its end, and whether any live worker can do it."""

    queue_position: int | None
    eta_seconds: float | None
    servable: bool


@dataclass(frozen=True, slots=True)
class Depth:
    """Jobs of all owners in one lane."""

    queued: int
    running: int
    oldest_seconds: float  # how long the job that is due and waits longest has waited; 0 where none does


def outlook(engine: Engine, job: Job, *, alive_seconds: float) -> Outlook:
    """What a queued or running job can expect of the workers that live now."""
    serving = alive(alive_seconds) & (workers.c.state == "ready") & (workers.c.models.any(job.spec.model))
    with transaction(engine) as connection:
        live, pace = connection.execute(
            select(func.count(), func.sum(workers.c.evaluations_per_second)).where(serving)
        ).one()
        ahead = _ahead(connection, job) if job.status == Status.QUEUED else None
    left = job.progress_total - job.progress_done + (ahead.evaluations if ahead else 0)
    return Outlook(
        queue_position=ahead.jobs + 1 if ahead else None,
        eta_seconds=round(left / pace, 1) if pace else None,
        servable=live > 0,
    )


def depth(engine: Engine) -> dict[Lane, Depth]:
    """How many jobs wait and run in each lane."""
    clock = func.clock_timestamp()
    queued = func.count().filter(is_queued)
    running = func.count().filter(is_running)
    due_since = func.min(func.greatest(jobs.c.created_at, jobs.c.not_before)).filter(
        is_queued, jobs.c.not_before <= clock
    )
    statement = (
        select(jobs.c.lane, queued, running, func.coalesce(func.extract("epoch", clock - due_since), 0))
        .where(is_queued | is_running)
        .group_by(jobs.c.lane)
    )
    with transaction(engine) as connection:
        found = {row[0]: Depth(row[1], row[2], float(row[3])) for row in connection.execute(statement)}
    return {lane: found.get(lane, Depth(0, 0, 0.0)) for lane in Lane}


def _ahead(connection: Connection, job: Job) -> Row[Any]:
    """Jobs of the same model that the claim would take before this one, and their evaluations."""
    batch = jobs.c.lane == Lane.BATCH
    turn = select(jobs.c.turn).where(jobs.c.id == job.id).scalar_subquery()
    before = (
        select(jobs.c.progress_total)
        .where(
            is_queued,
            jobs.c.model == job.spec.model,
            jobs.c.not_before <= func.clock_timestamp(),
            tuple_(batch, -jobs.c.priority, jobs.c.turn, jobs.c.id)
            < tuple_(job.lane == Lane.BATCH, -job.priority, turn, job.id),
        )
        .limit(_COUNTED_TO)
        .subquery()
    )
    evaluations = func.coalesce(func.sum(before.c.progress_total), 0)
    return connection.execute(
        select(func.count().label("jobs"), evaluations.label("evaluations")).select_from(before)
    ).one()
