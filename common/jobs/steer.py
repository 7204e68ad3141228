"""A batch steered as one: paused, resumed, canceled by its owner; held back by the sweeper while its window is closed.

What was asked stands in the batch's row at once, and the claim heeds it there. Its jobs are told of it after that, a
few thousand at a time, each lot in a transaction of its own: nobody who holds a job waits for a hundred thousand
others. A pause is a not_before that the worker of a running job finds at its next step.
"""

import time
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, func, select, update
from sqlalchemy.sql.elements import ColumnElement

from common.db import reading, transaction
from common.jobs.due import PAUSED, due, window_of
from common.jobs.owner import CANCELED
from common.jobs.tables import INSTANT, batches, is_queued, is_running, jobs

_LOT = 2000  # jobs told in one transaction: some tenths of a second
_ANSWER_SECONDS = 1.0  # what is asked is answered after that; the sweeper tells the jobs that are left
_PAUSE = 0.05  # seconds, until a job is looked at again that somebody else was writing


def pause_batch(engine: Engine, owner: str, batch_id: UUID) -> None:
    """Let no job of the batch start until resume_batch(); those that run are parked by their workers.

    Nothing happens to a batch that was canceled.
    """
    since = func.coalesce(batches.c.paused_at, func.clock_timestamp())
    _steer(engine, owner, batch_id, paused_at=since)


def resume_batch(engine: Engine, owner: str, batch_id: UUID) -> list[str]:
    """Let the jobs of a paused batch start again: now, or when its window opens. Returns the models of those due."""
    return _steer(engine, owner, batch_id, paused_at=None)


def cancel_batch(engine: Engine, owner: str, batch_id: UUID) -> None:
    """Cancel what waits; ask the workers of what runs to, at the next step. What is over stays as it is."""
    _steer(engine, owner, batch_id, canceled_at=func.clock_timestamp())


def steer_on(engine: Engine, seconds: float = 5.0) -> int:
    """Hold back the jobs of batches whose window has closed, until it opens again, and tell jobs what they were not
    told when their owner asked for it. Returns how many batches are done. For the sweeper.

    Stops after so many ``seconds``; the next round goes on. What runs goes first.
    """
    until, done = time.monotonic() + seconds, 0
    to_do = batches.c.steering | (batches.c.closes_at <= INSTANT)
    with reading(engine) as connection:
        found = connection.execute(select(batches.c.id).where(to_do).order_by(batches.c.id)).scalars().all()
    for batch_id in found:
        _tell(engine, batch_id, is_running)
    for batch_id in found:
        if time.monotonic() > until:
            break
        _tell_all(engine, batch_id, until)
        done += _settle(engine, batch_id)
    return done


def _steer(engine: Engine, owner: str, batch_id: UUID, **values: ColumnElement[Any] | None) -> list[str]:
    """Write into the batch's row what is asked, and tell its jobs; returns the models of those told that may start.

    Nothing happens where the owner has no such batch, or it was canceled.
    """
    mine = (batches.c.id == batch_id) & (batches.c.owner == owner) & batches.c.canceled_at.is_(None)
    mine &= batches.c.deleted_at.is_(None)
    with transaction(engine) as connection:
        if not connection.execute(update(batches).where(mine).values(steering=True, **values)).rowcount:
            return []
    until, models = time.monotonic() + _ANSWER_SECONDS, list[str]()
    while True:
        models += _tell_all(engine, batch_id, until)
        if _settle(engine, batch_id) or time.monotonic() > until:
            return models
        time.sleep(_PAUSE)


def _tell_all(engine: Engine, batch_id: UUID, until: float) -> list[str]:
    """Tell the batch's jobs what its row says, until so late; the models of those that may start."""
    models = [row.model for row in _tell(engine, batch_id, is_running) if row.due]
    after = UUID(int=0)
    while told := _tell(engine, batch_id, is_queued & (jobs.c.id > after)):
        models += [row.model for row in told if row.due]
        after = max(row.id for row in told)
        if time.monotonic() > until:
            break
    return models


def _tell(engine: Engine, batch_id: UUID, which: ColumnElement[bool]) -> list[Row[UUID, str, bool]]:
    """Tell the first of these jobs, as many as go into one transaction, what the batch's row says. Returns whom.

    Who is being written at this moment is left out: so nobody is waited for, and there can be no deadlock.
    """
    with transaction(engine) as connection:
        batch = _lock(connection, batch_id)
        untold, values = _wish(connection, batch)
        lot = (
            select(jobs.c.id)
            .where(jobs.c.batch_id == batch_id, which, untold)
            .order_by(jobs.c.id)
            .limit(_LOT)
            .with_for_update(skip_locked=True, key_share=True)
            .cte("lot")
        )
        told = update(jobs).where(jobs.c.id == lot.c.id).values(values)
        may_start = (is_queued & (jobs.c.not_before <= func.clock_timestamp())).label("due")  # and comes into line soon
        return list(connection.execute(told.returning(jobs.c.id, jobs.c.model, may_start)))


def _settle(engine: Engine, batch_id: UUID) -> bool:
    """Note that all jobs are told, and when the window closes next; False where some are not."""
    with transaction(engine) as connection:
        batch = _lock(connection, batch_id)
        untold, _ = _wish(connection, batch)
        live = (jobs.c.batch_id == batch_id) & (is_queued | is_running)
        if connection.execute(select(jobs.c.id).where(live, untold).limit(1)).first():
            return False
        left = connection.execute(select(jobs.c.id).where(live).limit(1)).first()
        closes = due(connection, window_of(batch)).closes if left else None
        connection.execute(update(batches).where(batches.c.id == batch_id).values(steering=False, closes_at=closes))
        return True


def _lock(connection: Connection, batch_id: UUID) -> Row[Any]:
    """The batch's row, which nobody else steers until the transaction ends."""
    return connection.execute(select(batches).where(batches.c.id == batch_id).with_for_update(key_share=True)).one()


def _wish(connection: Connection, batch: Row[Any]) -> tuple[ColumnElement[bool], dict[str, Any]]:
    """What the batch's row says to its jobs that are not over: which have not been told, and the values to tell."""
    if batch.canceled_at is not None:
        return is_queued | jobs.c.cancel_requested_at.is_(None), CANCELED
    if batch.paused_at is not None:
        return jobs.c.not_before != PAUSED, {"not_before": PAUSED}
    when = due(connection, window_of(batch))
    untold = jobs.c.not_before == PAUSED
    if when.later:
        untold |= jobs.c.not_before < when.opens
    return untold, {"not_before": when.opens, "published_at": when.rung}
