"""Retention: how long what has ended is kept, in; how much was deleted, and objects that nothing names any more, out.

A batch goes as a whole: its row says first that it is deleted, and nobody sees it from then on; its jobs go after that,
some at a time, and its row at last.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine, Select, delete, func, select, update

from common.db import reading, transaction
from common.errors import Conflict
from common.jobs.outbox import deliveries
from common.jobs.owner import remove_jobs
from common.jobs.tables import INSTANT, batches, is_queued, is_running, jobs

_BATCHES = 100  # looked at in one go


def delete_batch(engine: Engine, owner: str, batch_id: UUID) -> bool:
    """Delete the owner's batch, with its jobs and pictures; whether there was one. Raises Conflict where it goes on."""
    this = (batches.c.id == batch_id) & (batches.c.owner == owner) & batches.c.deleted_at.is_(None)
    live = select(jobs.c.id).where(jobs.c.batch_id == batch_id, is_queued | is_running).limit(1)
    with transaction(engine) as connection:
        if connection.execute(select(batches.c.id).where(this).with_for_update()).first() is None:
            return False
        if connection.execute(live).first():
            raise Conflict("jobs of the batch wait or run: cancel it first")
        _mark(connection, batch_id)
        return True


def forget_batches(engine: Engine, *, days: float) -> int:
    """Delete batches all of whose jobs ended over ``days`` ago; returns how many. Their jobs are left to clear_away().

    A batch that goes on keeps those of its jobs that ended, however long ago: its counts, its report and the choice of
    its best need them.
    """
    ago = INSTANT - timedelta(days=days)
    young = select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, func.coalesce(jobs.c.finished_at >= ago, True))
    ranked = batches.c.keep_best.is_(None) | batches.c.pruned_at.is_not(None)
    old = batches.c.deleted_at.is_(None) & (batches.c.created_at < ago) & ranked & ~young.exists()
    with reading(engine) as connection:
        found = connection.execute(select(batches.c.id).where(old).limit(_BATCHES)).scalars().all()
    forgotten = 0
    for batch_id in found:
        this = batches.c.id == batch_id
        with transaction(engine) as connection:
            if connection.execute(select(batches.c.id).where(this).with_for_update(skip_locked=True)).first() is None:
                continue
            # Looked at again, now that nobody can add jobs to it
            if connection.execute(select(batches.c.id).where(this, old)).first():
                _mark(connection, batch_id)
                forgotten += 1
    return forgotten


def forget_finished(engine: Engine, *, days: float, limit: int = 500) -> tuple[int, list[str]]:
    """Delete up to ``limit`` jobs of no batch that ended over ``days`` ago, with their images and events.

    Returns how many, and the keys of their objects, which nothing names any more: the caller removes them.
    """
    ended = jobs.c.batch_id.is_(None) & (jobs.c.finished_at < INSTANT - timedelta(days=days))
    return _remove(engine, select(jobs.c.id).where(ended).order_by(jobs.c.finished_at), limit)


def clear_away(engine: Engine, *, limit: int = 500) -> tuple[int, list[str]]:
    """Delete up to ``limit`` jobs of batches that are deleted, as forget_finished() does; and, of those that have none
    left, the row and the messages."""
    gone = select(batches.c.id).where(batches.c.deleted_at.is_not(None))
    count, keys = _remove(engine, select(jobs.c.id).where(jobs.c.batch_id.in_(gone)), limit)
    if not count:
        empty = gone.where(~select(jobs.c.id).where(jobs.c.batch_id == batches.c.id).exists())
        with transaction(engine) as connection:
            ids = connection.execute(empty.limit(_BATCHES).with_for_update(skip_locked=True)).scalars().all()
            connection.execute(delete(deliveries).where(deliveries.c.batch_id.in_(ids)))
            connection.execute(delete(batches).where(batches.c.id.in_(ids)))
    return count, keys


def _mark(connection: Connection, batch_id: UUID) -> None:
    """Let nobody see the batch any more, and its idempotency key stand for it no longer."""
    values = {"deleted_at": func.clock_timestamp(), "idempotency_key": None, "closes_at": None, "steering": False}
    connection.execute(update(batches).where(batches.c.id == batch_id).values(values))


def _remove(engine: Engine, which: Select[UUID], limit: int) -> tuple[int, list[str]]:
    with transaction(engine) as connection:
        ids = connection.execute(which.limit(limit).with_for_update(skip_locked=True, of=jobs)).scalars().all()
        return len(ids), remove_jobs(connection, ids)
