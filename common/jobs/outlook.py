"""How the queue stands: what jobs can expect, how many wait, and how long the oldest has. Reads only."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Engine,
    Integer,
    Interval,
    Row,
    Select,
    Text,
    Uuid,
    any_,
    bindparam,
    func,
    literal,
    over,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from common.db import reading
from common.jobs.read import Job
from common.jobs.state import TERMINAL, Lane, Status
from common.jobs.tables import LINE, is_queued, is_running, jobs, workers
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


def outlooks(engine: Engine, found: Iterable[Job], *, alive_seconds: float) -> dict[UUID, Outlook]:
    """What those of these jobs that wait or run can expect of the workers that live now. One look for each model."""
    by_model: dict[str, list[Job]] = {}
    for job in found:
        if job.status not in TERMINAL:
            by_model.setdefault(job.spec.model, []).append(job)
    expected: dict[UUID, Outlook] = {}
    for model, some in by_model.items():
        waiting = [job for job in some if job.status == Status.QUEUED]
        last = max(waiting, key=_order, default=some[0])
        facts = {
            "model": model,
            "ids": [job.id for job in waiting],
            "lane": last.lane,
            "priority": last.priority,
            "turn": last.turn,
            "last": last.id,
            "alive": timedelta(seconds=alive_seconds),
        }
        with reading(engine) as connection:
            rows = connection.execute(_OUTLOOK, facts).all()
        ahead = {row.id: row for row in rows}
        expected |= {job.id: _expect(job, ahead.get(job.id), rows[0]) for job in some}
    return expected


def _order(job: Job) -> tuple[bool, int, int, UUID]:
    """Where the job stands in the claim's order, as LINE has it."""
    return job.lane == Lane.BATCH, -job.priority, job.turn, job.id


def _expect(job: Job, ahead: Row[Any] | None, crew: Row[Any]) -> Outlook:
    jobs_ahead, evaluations_ahead = (ahead.jobs_ahead, ahead.evaluations_ahead) if ahead else (0, 0)
    left = job.progress_total - job.progress_done + evaluations_ahead
    return Outlook(
        queue_position=jobs_ahead + 1 if job.status == Status.QUEUED else None,
        eta_seconds=round(left / crew.pace, 1) if crew.pace else None,
        servable=crew.live > 0,
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


_PLACE = [jobs.c[name] for name in ("id", "lane", "priority", "turn", "progress_total")]


def _make_outlook() -> Select[Any]:
    """One statement, built once, for it is asked at every poll: live workers and their pace, and for each waiting job
    that is asked for what is ahead of it: the jobs of its model that the claim would take first."""
    ids = bindparam("ids", type_=ARRAY(Uuid))
    asked = select(*_PLACE, literal(0).label("counts")).where(jobs.c.id == any_(ids), is_queued)
    both = union_all(_select_line(), asked).subquery()
    order = (both.c.lane.desc(), both.c.priority.desc(), both.c.turn, both.c.id, both.c.counts)  # before its own place
    ahead = partial(over, order_by=order, rows=(None, -1))
    placed = select(
        both.c.id,
        both.c.counts,
        func.coalesce(ahead(func.sum(both.c.counts)), 0).label("jobs_ahead"),
        func.coalesce(ahead(func.sum(both.c.counts * both.c.progress_total)), 0).label("evaluations_ahead"),
    ).subquery()
    serving = (
        alive(bindparam("alive", type_=Interval)),
        workers.c.state == "ready",
        bindparam("model", type_=Text) == any_(workers.c.models),
    )
    pace = func.sum(workers.c.evaluations_per_second).label("pace")
    crew = select(func.count().label("live"), pace).where(*serving).subquery()
    return select(crew, placed).select_from(crew.outerjoin(placed, placed.c.counts == 0))


def _select_line() -> CompoundSelect[Any]:
    """Who may start now, up to the last of the jobs that are asked for.

    A walk along the index jobs_claim, in three ranges: by one comparison of all its columns, of which some go down and
    others up, PostgreSQL can neither enter it nor leave it. Lane and priority are written out, and lanes compared for
    equality, so that it plans for these and not for any, also where it has no statistics yet; and each range is read
    in its order, or it would be read whole before the limit.
    """
    lane = bindparam("lane", type_=Text, literal_execute=True)
    priority = bindparam("priority", type_=Integer, literal_execute=True)
    equal = (jobs.c.lane == lane) & (jobs.c.priority == priority)
    ranges = (
        (jobs.c.lane == Lane.INTERACTIVE) & (lane != Lane.INTERACTIVE),
        (jobs.c.lane == lane) & (jobs.c.priority > priority),
        equal & (tuple_(jobs.c.turn, jobs.c.id) < tuple_(bindparam("turn", type_=BigInteger), bindparam("last"))),
    )
    who = select(*_PLACE, literal(1).label("counts")).where(jobs.c.due, jobs.c.model == bindparam("model"))
    suspects = (~jobs.c.suspect, jobs.c.suspect)  # apart in the index
    in_order = (who.where(one, each).order_by(*LINE).limit(_COUNTED_TO) for each in ranges for one in suspects)
    return union_all(*in_order).limit(_COUNTED_TO)


_OUTLOOK = _make_outlook()
