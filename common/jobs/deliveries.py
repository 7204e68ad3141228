"""The outbox of webhooks: what has to be delivered is claimed, and settled by what the receiver answered. Rows only.

A trigger writes a job's delivery in the statement that ends the job; tell_completed() that of a batch. A claim is a
lease: it puts the next attempt off until after this one, and nothing but that time lets the attempt be settled.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Connection, Engine, Row, case, func, insert, literal_column, null, select, update

from common.db import reading, transaction
from common.ids import new_id
from common.jobs.outbox import deliveries
from common.jobs.secrets import signing_secrets
from common.jobs.state import BatchStatus
from common.jobs.tables import batches, is_queued, is_running, jobs

PERSEVERANCE = timedelta(days=1)  # the trigger's, too
_FIRST_PAUSE = 5.0  # seconds
_LONGEST_PAUSE = 4 * 3600.0
_LOT = 1000  # deliveries given up in one transaction
_CLOCK = func.clock_timestamp()


class DeliveryStatus(StrEnum):
    """Where a delivery is."""

    PENDING = "pending"  # due, or due again
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # given up after a day
    DISABLED = "disabled"  # the receiver answered 410: it is gone


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one receiver, as it stands."""

    id: UUID
    owner: str
    type: str
    job_id: UUID | None
    batch_id: UUID | None
    url: str
    host: str
    data: Mapping[str, Any]
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    last_status_code: int | None
    last_error: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """A delivery that is ours to make until ``lease``, and the secrets that sign it."""

    delivery: Delivery
    lease: datetime
    secrets: Sequence[str]


def claim_delivery(
    engine: Engine, *, lease_seconds: float, busy_owners: Collection[str] = (), busy_hosts: Collection[str] = ()
) -> Attempt | None:
    """Take the next delivery that is due, but for these owners' and to these hosts; None where there is none."""
    due = (
        select(deliveries.c.id)
        .where(
            deliveries.c.status == DeliveryStatus.PENDING,
            deliveries.c.next_attempt_at <= _CLOCK,
            deliveries.c.owner.not_in(busy_owners),
            deliveries.c.host.not_in(busy_hosts),
        )
        .order_by(deliveries.c.next_attempt_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    statement = (
        update(deliveries)
        .where(deliveries.c.id == due.c.id)
        .values(
            attempts=deliveries.c.attempts + 1,
            last_attempt_at=_CLOCK,
            next_attempt_at=_CLOCK + timedelta(seconds=lease_seconds),
        )
        .returning(*deliveries.c)
    )
    with transaction(engine) as connection:
        row = connection.execute(statement).one_or_none()
        if row is None:
            return None
        return Attempt(_delivery(row), row.next_attempt_at, signing_secrets(connection, row.owner))


def settle_delivery(engine: Engine, attempt: Attempt, *, status_code: int | None, error: str | None) -> DeliveryStatus:
    """Note how the attempt went: by the receiver's ``status_code``, or by the ``error`` that kept it from answering.

    Returns what became of the delivery; PENDING too where it is not ours any more, and nothing was noted.
    """
    one = attempt.delivery
    mine = (deliveries.c.id == one.id) & (deliveries.c.next_attempt_at == attempt.lease)
    with transaction(engine) as connection:
        row = connection.execute(
            update(deliveries)
            .where(mine)
            .values(last_status_code=status_code, last_error=error, **_outcome(one.attempts, status_code))
            .returning(deliveries.c.status)
        ).one_or_none()
    if row is not None and row.status == DeliveryStatus.DISABLED:
        _disable(engine, one.owner, one.url)
    return DeliveryStatus(row.status) if row else DeliveryStatus.PENDING


def pause_before_next(attempts: int, chance: float) -> float:
    """Seconds: three times as long after each attempt, four hours at most, up to a quarter more or less by chance.

    ``chance`` is from 0 to 1. Receivers that failed together are so not called together again.
    """
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 3.0 ** min(attempts - 1, 20)) * (0.75 + chance / 2)


def tell_completed(engine: Engine, limit: int = 100) -> int:
    """Write a delivery for each batch that is over and whose receiver waits for that; returns how many.

    For the sweeper. Where the best are kept, once they are. A batch whose failed jobs are retried is told anew.
    """
    live = select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, is_queued | is_running).exists()
    # Written out, as in the index
    wants = literal_column("batches.webhook -> 'events' ? 'completed'", Boolean) & batches.c.told_at.is_(None)
    wants &= batches.c.deleted_at.is_(None)
    chosen = batches.c.keep_best.is_(None) | batches.c.pruned_at.is_not(None)
    with reading(engine) as connection:
        over = connection.execute(select(batches.c.id).where(wants, chosen, ~live).limit(limit)).scalars().all()
    told = 0
    for batch_id in over:
        this = batches.c.id == batch_id
        with transaction(engine) as connection:  # one a batch: counting its jobs takes a while, and holds its row
            if connection.execute(select(batches.c.id).where(this).with_for_update(skip_locked=True)).first() is None:
                continue
            # Looked at again, now that nobody can add jobs to it
            batch = connection.execute(select(batches).where(this, wants, chosen, ~live)).one_or_none()
            if batch is not None:
                connection.execute(insert(deliveries).values(_completion(connection, batch)))
                connection.execute(update(batches).where(this).values(told_at=_CLOCK))
                told += 1
    return told


def list_deliveries(
    engine: Engine,
    owner: str,
    *,
    job_id: UUID | None = None,
    status: DeliveryStatus | None = None,
    after: UUID | None = None,
    limit: int,
) -> tuple[list[Delivery], bool]:
    """The owner's deliveries, newest first, those older than ``after``; and whether there are more."""
    wanted = deliveries.c.owner == owner
    if job_id is not None:
        wanted &= deliveries.c.job_id == job_id
    if status is not None:
        wanted &= deliveries.c.status == status
    if after is not None:
        wanted &= deliveries.c.id < after
    statement = select(deliveries).where(wanted).order_by(deliveries.c.id.desc()).limit(limit + 1)
    with reading(engine) as connection:
        found = [_delivery(row) for row in connection.execute(statement)]
    return found[:limit], len(found) > limit


def redeliver(engine: Engine, owner: str, delivery_id: UUID) -> Delivery | None:
    """Make the owner's delivery due now, whatever became of it, and for a day from now; None where there is none."""
    mine = (deliveries.c.id == delivery_id) & (deliveries.c.owner == owner)
    again = {"status": DeliveryStatus.PENDING, "next_attempt_at": _CLOCK, "gives_up_at": _CLOCK + PERSEVERANCE}
    with transaction(engine) as connection:
        row = connection.execute(update(deliveries).where(mine).values(again).returning(*deliveries.c)).one_or_none()
    return _delivery(row) if row else None


def _outcome(attempts: int, status_code: int | None) -> dict[str, Any]:
    """The columns that say what comes after this attempt."""
    if status_code is not None and 200 <= status_code < 300:
        return {"status": DeliveryStatus.DELIVERED, "next_attempt_at": null()}
    if status_code == 410:
        return {"status": DeliveryStatus.DISABLED, "next_attempt_at": null()}
    pause = timedelta(seconds=pause_before_next(attempts, random.random()))  # noqa: S311 - no secret
    then = func.statement_timestamp() + pause  # one moment for both columns
    again = then < deliveries.c.gives_up_at
    return {
        "status": case((again, DeliveryStatus.PENDING), else_=DeliveryStatus.FAILED),
        "next_attempt_at": case((again, then)),
    }


def _disable(engine: Engine, owner: str, url: str) -> None:
    """Give up what else waits for a receiver that is gone. The trigger sees to what is still to come.

    Some at a time, and not what is being settled: its receiver answers the same.
    """
    waits = (deliveries.c.owner == owner) & (deliveries.c.url == url) & (deliveries.c.status == DeliveryStatus.PENDING)
    lot = select(deliveries.c.id).where(waits).limit(_LOT).with_for_update(skip_locked=True).cte("lot")
    gone = update(deliveries).where(deliveries.c.id == lot.c.id)
    count = _LOT
    while count == _LOT:
        with transaction(engine) as connection:
            values = {"status": DeliveryStatus.DISABLED, "next_attempt_at": null()}
            count = connection.execute(gone.values(values)).rowcount


def _completion(connection: Connection, batch: Row[Any]) -> dict[str, Any]:
    counted = (
        select(jobs.c.status, func.count().label("jobs")).where(jobs.c.batch_id == batch.id).group_by(jobs.c.status)
    )
    counts = {row.status: row.jobs for row in connection.execute(counted)}
    return {
        "id": new_id(),
        "owner": batch.owner,
        "type": "batch.completed",
        "batch_id": batch.id,
        "url": batch.webhook["url"],
        "host": batch.webhook["host"],
        "data": {
            "status": BatchStatus.CANCELED if batch.canceled_at else BatchStatus.COMPLETED,
            "name": batch.name,
            "counts": counts,
            "metadata": batch.metadata,
        },
        "next_attempt_at": _CLOCK,
        "gives_up_at": _CLOCK + PERSEVERANCE,
    }


def _delivery(row: Row[Any]) -> Delivery:
    values = {name: row._mapping[name] for name in Delivery.__dataclass_fields__}
    return Delivery(**values | {"status": DeliveryStatus(row.status)})
