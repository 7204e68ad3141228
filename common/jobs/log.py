"""The event log as it grows: a place in it in, the changes of state behind that place out. Reads only.

Ids are given before their transactions commit, so the log is not written in their order: a reader that goes on behind
the last id it saw would pass by what is committed late. So a gap in the ids is waited for, while somebody writes who
may fill it, and nothing else is waited for (ADR 0013).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, case, func, select, text

from common.db import reading
from common.jobs.state import Status
from common.jobs.tables import batches, events, jobs

PAGE = 500  # events read at once

# Who inserts into the log holds this lock from before its first id until after its commit is seen
_WRITERS = text("""
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND relation = 'events'::regclass
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a job's state."""

    id: int
    at: datetime
    status: Status
    attempt: int
    job_id: UUID
    batch_id: UUID | None
    owner: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Whose events, and of which of their jobs: one, those of a batch, or all."""

    owner: str
    job_id: UUID | None = None
    batch_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """Of the ids up to ``top``, what is missing once these ``writers`` have ended is missing for good."""

    top: int
    writers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Tail:
    """How far the log has been read: nothing up to ``end`` can be added any more. None: not known yet."""

    end: int | None = None
    fence: Fence | None = None


def read_on(engine: Engine, tail: Tail) -> tuple[Tail, list[Event]]:
    """Everybody's events behind the tail, in the order of their ids, at most a page; and where the tail is then.

    Where it is not known where the log ends, it looks for that first. Where the new tail has a fence, the rest is to
    come soon.
    """
    if tail.end is None:
        return skip_on(engine, tail), []
    with reading(engine) as connection:
        fence = tail.fence
        cleared = fence is not None and not (fence.writers and fence.writers & _writers(connection))
        rows = connection.execute(_EVENTS.where(events.c.id > tail.end).order_by(events.c.id).limit(PAGE)).all()
        end = _end(tail.end, fence.top if fence and cleared else 0, [row.id for row in rows])
        if not rows or end == rows[-1].id:
            return Tail(end), [_as_event(row) for row in rows]
        if fence is None or cleared:
            fence = _fence(connection, rows[-1].id)
        return Tail(end, fence), [_as_event(row) for row in rows if row.id <= end]


def skip_on(engine: Engine, tail: Tail) -> Tail:
    """The tail as far on as it can be, without what is there: for when nobody follows the log.

    Its end is that of the log, unless somebody writes whose ids may be smaller.
    """
    with reading(engine) as connection:
        newest = _fence(connection, _newest(connection))
    if not newest.writers:
        return Tail(newest.top)
    if tail.fence is None:
        return Tail(tail.end, newest)
    if tail.fence.writers & newest.writers:
        return tail
    return Tail(max(tail.end or 0, tail.fence.top), newest)


def read_events(engine: Engine, watch: Watch, after: int, until: int | None) -> list[Event]:
    """What is watched behind ``after``, up to and with ``until``; at most a page.

    Without ``until`` only where nothing can be under way that comes first: of one job, whose row lock sees to that.
    """
    wanted = _EVENTS.where(events.c.id > after, jobs.c.owner == watch.owner)
    if until is not None:
        wanted = wanted.where(events.c.id <= until)
    if watch.job_id is not None:
        wanted = wanted.where(events.c.job_id == watch.job_id)
    if watch.batch_id is not None:
        wanted = wanted.where(jobs.c.batch_id == watch.batch_id)
    with reading(engine) as connection:
        return [_as_event(row) for row in connection.execute(wanted.order_by(events.c.id).limit(PAGE))]


def newest_event(engine: Engine) -> int:
    """The highest id in the log; 0 where there is none."""
    with reading(engine) as connection:
        return _newest(connection)


def count_unfinished(engine: Engine, watch: Watch) -> int | None:
    """How many of the jobs that are watched are not over; None where the owner has no such job, or batch."""
    live = jobs.c.status.in_([Status.QUEUED, Status.RUNNING])
    if watch.job_id is not None:
        found = select(case((live, 1), else_=0)).where(jobs.c.id == watch.job_id, jobs.c.owner == watch.owner)
    else:
        count = select(func.count()).where(jobs.c.batch_id == batches.c.id, live).scalar_subquery()
        found = select(count).where(batches.c.id == watch.batch_id, batches.c.owner == watch.owner)
    with reading(engine) as connection:
        return connection.execute(found).scalar_one_or_none()


_EVENTS = select(
    events.c.id, events.c.at, events.c.to_status, events.c.attempt, events.c.job_id, jobs.c.batch_id, jobs.c.owner
).join_from(events, jobs)


def _end(end: int, cleared: int, ids: Sequence[int]) -> int:
    """How far the ``ids`` go behind ``end`` without a gap; up to ``cleared`` a gap is none."""
    for each in ids:
        if each > max(end, cleared) + 1:
            break
        end = each
    return end


def _newest(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one())


def _fence(connection: Connection, top: int) -> Fence:
    return Fence(top, _writers(connection))


def _writers(connection: Connection) -> frozenset[str]:
    return frozenset(connection.execute(_WRITERS).scalars())


def _as_event(row: Any) -> Event:
    return Event(row.id, row.at, Status(row.to_status), row.attempt, row.job_id, row.batch_id, row.owner)
