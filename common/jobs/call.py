"""Calls that wait for their answer: a request that a client sends again, and names by nothing, finds what it made.

OpenAI's clients give up after a time-out and send the same once more, with the number of the try and no key. While
a call has not been answered, its job is in ``calls``: the next try of the same words joins it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from common.db import transaction
from common.jobs.reuse import ALIVE_SECONDS
from common.jobs.submit import Receipt, Submission, insert_job
from common.jobs.tables import batches, calls

PATIENCE = timedelta(hours=1)  # after its last try a call is given up by its client, whatever the client is
_FORGOTTEN = 100  # old calls by a new one; no two wait for each other over them


@dataclass(frozen=True, slots=True)
class Call:
    """Which job a call waits for, and until when nobody else joins it: the token of whoever waits."""

    receipt: Receipt
    held_until: datetime | None  # None: it has an idempotency key, and is found by that


def open_call(
    engine: Engine,
    submission: Submission,
    digest: str,
    *,
    again: bool,
    hold_seconds: float,
    max_queued: int,
    max_queued_per_owner: int,
    alive_seconds: float = ALIVE_SECONDS,
) -> Call:
    """The job of a new call; or, ``again``, of one whose request had the same ``digest`` and was not answered.

    Such a call is joined where nobody waits for it, then where somebody seems to: a proxy may hide that a client has
    gone. As many clients as ask for the same get as many jobs. Raises as submit_job() does.
    """
    hold = timedelta(seconds=hold_seconds)
    with transaction(engine) as connection:
        _lock(connection, submission.owner, digest)
        if again and (call := _join(connection, submission.owner, digest, hold)):
            return call
        receipt = insert_job(
            connection,
            submission,
            max_queued=max_queued,
            max_queued_per_owner=max_queued_per_owner,
            alive_seconds=alive_seconds,
        )
        values = {"job_id": receipt.job_id, "owner": submission.owner, "digest": digest}
        opened = insert(calls).values(held_until=func.clock_timestamp() + hold, **values).returning(calls.c.held_until)
        call = Call(receipt, connection.execute(opened).scalar_one())
        old = (calls.c.owner == submission.owner) & (calls.c.held_until < func.clock_timestamp() - PATIENCE)
        free = select(calls.c.job_id).where(old).limit(_FORGOTTEN).with_for_update(skip_locked=True)
        connection.execute(delete(calls).where(calls.c.job_id.in_(free)))
        return call


def leave_call(engine: Engine, call: Call, *, answered: bool) -> None:
    """The call is answered, and so forgotten; or its client has gone, and may come again, if it has not yet."""
    if call.held_until is None:
        return
    mine = calls.c.job_id == call.receipt.job_id
    leaving = delete(calls).where(mine)
    waiting = update(calls).where(mine, calls.c.held_until == call.held_until).values(held_until=func.clock_timestamp())
    with transaction(engine) as connection:
        connection.execute(leaving if answered else waiting)


def find_asked(connection: Connection, owner: str, fingerprint: str, again: bool) -> UUID | None:
    """The batch that the same request has just made, where it is sent ``again``; waits for one that is being made."""
    _lock(connection, owner, fingerprint)
    if not again:
        return None
    same = (batches.c.owner == owner) & (batches.c.fingerprint == fingerprint) & batches.c.deleted_at.is_(None)
    recent = batches.c.created_at > func.clock_timestamp() - PATIENCE
    newest = select(batches.c.id).where(same, recent).order_by(batches.c.id.desc()).limit(1)
    return connection.execute(newest).scalar_one_or_none()


def _lock(connection: Connection, owner: str, digest: str) -> None:
    """Until the transaction ends: a try that comes while the one before is being inserted must see what it inserts."""
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{owner} {digest}", 0))))


def _join(connection: Connection, owner: str, digest: str, hold: timedelta) -> Call | None:
    now = func.clock_timestamp()
    first = (
        select(calls.c.job_id)
        .where(calls.c.owner == owner, calls.c.digest == digest, calls.c.held_until > now - PATIENCE)
        .order_by(calls.c.held_until)
        .limit(1)
        .scalar_subquery()
    )
    joined = update(calls).where(calls.c.job_id == first).values(held_until=now + hold).returning(*calls.c)
    row = connection.execute(joined).one_or_none()
    return Call(Receipt(row.job_id, replayed=True), row.held_until) if row else None
