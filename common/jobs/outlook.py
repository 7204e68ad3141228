"""How the queue stands: what one job can expect, how many wait, and how long the oldest has. Reads only."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Boolean, Engine, Integer, Interval, Select, Uuid, bindparam, func, select, true, tuple_

from common.db import reading
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
    facts = {
        "id": job.id,
        "model": job.spec.model,
        "waits": job.status == Status.QUEUED,
        "batch": job.lane == Lane.BATCH,
        "urgency": -job.priority,
        "alive": timedelta(seconds=alive_seconds),
    }
    with reading(engine) as connection:
        now = connection.execute(_OUTLOOK, facts).one()
    left = job.progress_total - job.progress_done + now.evaluations_ahead
    return Outlook(
        queue_position=now.jobs_ahead + 1 if job.status == Status.QUEUED else None,
        eta_seconds=round(left / now.pace, 1) if now.pace else None,
        servable=now.live > 0,
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
    with reading(engine) as connection:
        found = {row[0]: Depth(row[1], row[2], float(row[3])) for row in connection.execute(statement)}
    return {lane: found.get(lane, Depth(0, 0, 0.0)) for lane in Lane}


def _make_outlook() -> Select[Any]:
    """One statement, built once, for it is asked at every poll: live workers and their pace, and what is ahead.

    Ahead of a waiting job are the jobs of its model that the claim would take first.
    """
    turn = select(jobs.c.turn).where(jobs.c.id == bindparam("id", type_=Uuid)).scalar_subquery()
    before = (
        select(jobs.c.progress_total)
        .where(
            bindparam("waits", type_=Boolean),
            is_queued,
            jobs.c.model == bindparam("model"),
            jobs.c.not_before <= func.clock_timestamp(),
            tuple_(jobs.c.lane == Lane.BATCH, -jobs.c.priority, jobs.c.turn, jobs.c.id)
            < tuple_(bindparam("batch", type_=Boolean), bindparam("urgency", type_=Integer), turn, bindparam("id")),
        )
        .limit(_COUNTED_TO)
        .subquery()
    )
    ahead = select(
        func.count().label("jobs_ahead"), func.coalesce(func.sum(before.c.progress_total), 0).label("evaluations_ahead")
    ).select_from(before)
    serving = select(func.count().label("live"), func.sum(workers.c.evaluations_per_second).label("pace")).where(
        alive(bindparam("alive", type_=Interval)), workers.c.state == "ready", workers.c.models.any(bindparam("model"))
    )
    line, crew = ahead.subquery(), serving.subquery()
    return select(line, crew).select_from(line.join(crew, true()))  # one row each


_OUTLOOK = _make_outlook()
