"""A batch steered as one: paused, resumed, canceled by its owner; held back by the sweeper while its window is closed.

All of it is a not_before that the claim heeds, and that the worker of a running job finds at its next step.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, func, select, update
from sqlalchemy.sql.elements import ColumnElement

from common.db import transaction
from common.jobs.due import PAUSED, due, window_of
from common.jobs.owner import canceling
from common.jobs.tables import batches, is_queued, is_running, jobs


def pause_batch(engine: Engine, owner: str, batch_id: UUID) -> None:
    """Let no job of the batch start until resume_batch(); those that run are parked by their workers.

    Nothing happens to a batch that was canceled.
    """
    with transaction(engine) as connection:
        since = func.coalesce(batches.c.paused_at, func.clock_timestamp())
        if _steer(connection, owner, batch_id, paused_at=since):
            connection.execute(update(jobs).where(_live(batch_id)).values(not_before=PAUSED))


def resume_batch(engine: Engine, owner: str, batch_id: UUID) -> list[str]:
    """Let the jobs of a paused batch start again: now, or when its window opens. Returns the models of those due."""
    with transaction(engine) as connection:
        batch = _steer(connection, owner, batch_id, paused_at=None)
        if batch is None:
            return []
        when = due(connection, window_of(batch))
        connection.execute(update(batches).where(batches.c.id == batch_id).values(closes_at=when.closes))
        paused = _live(batch_id) & (jobs.c.not_before == PAUSED)
        again = update(jobs).where(paused).values(not_before=when.opens, published_at=when.rung)
        models = connection.execute(again.returning(jobs.c.model)).scalars()
        return [] if when.later else list(models)


def close_windows(engine: Engine, limit: int = 100) -> int:
    """Hold back the jobs of batches whose window has closed, until it opens again; returns how many batches.

    What waits gets a later not_before; what runs does too, and is parked by its worker. For the sweeper.
    """
    with transaction(engine) as connection:
        closing = (
            select(batches)
            .where(batches.c.closes_at <= func.clock_timestamp())
            .order_by(batches.c.closes_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = connection.execute(closing).all()
        for batch in found:
            when = due(connection, window_of(batch))
            early = _live(batch.id) & (jobs.c.not_before < when.opens)
            connection.execute(update(jobs).where(early).values(not_before=when.opens, published_at=None))
            left = connection.execute(select(jobs.c.id).where(_live(batch.id)).limit(1)).first()
            closes = when.closes if left else None
            connection.execute(update(batches).where(batches.c.id == batch.id).values(closes_at=closes))
        return len(found)


def cancel_batch(engine: Engine, owner: str, batch_id: UUID) -> None:
    """Cancel what waits at once; ask the workers of what runs to, at the next step. What is over stays as it is."""
    with transaction(engine) as connection:
        if _steer(connection, owner, batch_id, canceled_at=func.clock_timestamp()):
            connection.execute(canceling(jobs.c.batch_id == batch_id))


def _steer(connection: Connection, owner: str, batch_id: UUID, **values: ColumnElement[Any] | None) -> Row[Any] | None:
    """Change the batch's row, and so lock it; None where the owner has no such batch, or it was canceled."""
    mine = (batches.c.id == batch_id) & (batches.c.owner == owner) & batches.c.canceled_at.is_(None)
    return connection.execute(update(batches).where(mine).values(**values).returning(*batches.c)).one_or_none()


def _live(batch_id: UUID) -> ColumnElement[bool]:
    return (jobs.c.batch_id == batch_id) & (is_queued | is_running)
