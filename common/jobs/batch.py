"""Batches: many submissions in, one row for the batch and one for each job out, all or none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from common.db import copy_rows, transaction
from common.errors import Conflict, QueueFull
from common.ids import new_id
from common.jobs.call import find_asked
from common.jobs.due import PAUSED, Due, due, window_of
from common.jobs.line import take_turns
from common.jobs.replay import first_under_key
from common.jobs.reuse import ALIVE_SECONDS, Twin, find_twins, insert_pictures
from common.jobs.room import count_reused, is_beyond, latest_event
from common.jobs.spec import JobSpec
from common.jobs.state import Lane, Status
from common.jobs.submit import Submission
from common.jobs.tables import batches, jobs
from common.jobs.window import Window

# How a job stands that waits; one that takes over the pictures of another has its outcome there
WAITING: dict[str, Any] = {
    "status": Status.QUEUED.value, "created_at": None, "finished_at": None, "reused_from": None, "progress_done": 0,
    "styled_prompt": None, "enhanced_prompt": None, "recipe": None,
}  # fmt: skip

_COLUMNS = (
    "id", "batch_id", "owner", "custom_id", "spec", "spec_digest", "model", "metadata", "retried_from", "fingerprint",
    "lane", "priority", "turn", "not_before", "deadline", "published_at", "progress_total", *WAITING,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What its jobs have in common, as it enters the queue."""

    owner: str
    name: str
    fingerprint: str  # hash of the request as sent: tells a repeated request from another under the same key
    lane: Lane = Lane.BATCH
    deadline: datetime | None = None
    window: Window | None = None
    keep_best: int | None = None  # of pictures that were asked for alike but for the seed; None: all
    metadata: Mapping[str, str] | None = None
    webhook: Mapping[str, Any] | None = None  # who is told of its end, or of its jobs': url, host, events
    idempotency_key: str | None = None
    input_file_id: UUID | None = None  # that its jobs stood in
    again: bool = False  # whether the client says that it asked before; heeded where there is an input file


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """Which batch a request became; ``replayed`` where its idempotency key had made it before."""

    batch_id: UUID
    replayed: bool
    due: bool = False  # whether its jobs may start now


def submit_batch(
    engine: Engine,
    batch: NewBatch,
    submissions: Sequence[Submission],
    *,
    max_queued: int,
    max_queued_per_owner: int,
    alive_seconds: float = ALIVE_SECONDS,
) -> BatchReceipt:
    """Insert the batch and its jobs, in their order, and commit: all of them, or nothing.

    Jobs that an equal one answers already are over at once: see submit_job(). An owner may have as many of them in a
    minute as may wait.

    Raises IdempotencyMismatch where the key stands for another request, QueueFull where the jobs do not all fit
    under the limits, Unavailable where the database is down.
    """
    # Before the transaction: of a hundred thousand jobs they take seconds, in which it would hold its locks and idle
    digests = [one.spec.digest() for one in submissions]
    with transaction(engine) as connection:
        if batch.input_file_id and (first := find_asked(connection, batch.owner, batch.fingerprint, batch.again)):
            return BatchReceipt(first, replayed=True)
        when = due(connection, batch.window)
        batch_id = _insert_batch(connection, batch, sorted({one.spec.model for one in submissions}), when.closes)
        if batch_id is None:
            first = first_under_key(connection, batches, batch.owner, batch.idempotency_key, batch.fingerprint)
            assert first is not None  # noqa: S101 - only a key's row is in the way of an insert
            return BatchReceipt(first, replayed=True)
        wanted = {digest for one, digest in zip(submissions, digests, strict=True) if one.reuse}
        twins = find_twins(connection, batch.owner, wanted, alive_seconds=alive_seconds)
        taken = [twins.get(digest) if one.reuse else None for one, digest in zip(submissions, digests, strict=True)]
        _check_room(connection, batch.owner, taken.count(None), max_queued, max_queued_per_owner)
        _check_reused(connection, batch.owner, len(taken) - taken.count(None), max_queued_per_owner)
        _copy_jobs(connection, batch_id, batch.lane, batch.deadline, when, submissions, digests, taken)
    return BatchReceipt(batch_id, replayed=False, due=not when.later)


def retry_failed(
    engine: Engine, owner: str, batch_id: UUID, *, max_queued: int, max_queued_per_owner: int
) -> list[str]:
    """Add a new job for each of the batch that failed or expired and was not retried yet. Returns their models.

    Raises Conflict for a canceled batch, QueueFull. Nothing happens where the owner has no such batch.
    """
    with transaction(engine) as connection:
        mine = (batches.c.id == batch_id) & (batches.c.owner == owner) & batches.c.deleted_at.is_(None)
        batch = connection.execute(select(batches).where(mine).with_for_update()).one_or_none()
        if batch is None:
            return []
        if batch.canceled_at is not None:
            raise Conflict("the batch was canceled")
        again = _to_retry(connection, batch_id)
        if not again:  # and so it is told and pruned already, or will be
            return []
        _check_room(connection, owner, len(again), max_queued, max_queued_per_owner)
        deadline = batch.deadline if batch.deadline and batch.deadline > datetime.now(UTC) else None
        when = due(connection, window_of(batch))
        if batch.paused_at is not None:
            when = Due(PAUSED, later=True, closes=when.closes)
        digests = [one.spec.digest() for one in again]
        _copy_jobs(connection, batch_id, Lane(batch.lane), deadline, when, again, digests, [None] * len(again))
        anew = update(batches).where(batches.c.id == batch_id)
        connection.execute(anew.values(closes_at=when.closes, pruned_at=None, told_at=None))
        return [one.spec.model for one in again]


def _insert_batch(
    connection: Connection, batch: NewBatch, models: Sequence[str], closes: datetime | None
) -> UUID | None:
    """The new batch's id; None where the owner has used this idempotency key already."""
    statement = (
        insert(batches)
        .values(
            id=new_id(),
            owner=batch.owner,
            name=batch.name,
            metadata=dict(batch.metadata or {}),
            models=list(models),
            lane=batch.lane,
            deadline=batch.deadline,
            window=batch.window.to_json() if batch.window else None,
            closes_at=closes,
            keep_best=batch.keep_best,
            webhook=dict(batch.webhook) if batch.webhook else None,
            input_file_id=batch.input_file_id,
            idempotency_key=batch.idempotency_key,
            fingerprint=batch.fingerprint,
        )
        .on_conflict_do_nothing(constraint="batches_idempotency")
        .returning(batches.c.id)
    )
    return connection.execute(statement).scalar_one_or_none()


def _check_room(connection: Connection, owner: str, count: int, most: int, most_of_owner: int) -> None:
    """Raise QueueFull unless ``count`` more jobs fit into the queue, and into the owner's share of it."""
    event = connection.execute(select(latest_event)).scalar_one()
    for whose, limit, of in (("the queue", most, None), ("your share of the queue", most_of_owner, owner)):
        if count > limit or is_beyond(connection, limit - count, event, of):
            raise QueueFull(f"{whose} has no room for {count} jobs: {limit} may wait in all")


def _check_reused(connection: Connection, owner: str, count: int, most: int) -> None:
    """Raise QueueFull where the owner has taken over the pictures of more than ``most`` jobs in a minute.

    They take no place in the queue, but rows: without a limit, a request would make a hundred thousand of them.
    """
    if count and count_reused(connection, owner, most) + count > most:
        raise QueueFull(f"{count} of these jobs are answered already; you may have {most} such jobs in a minute")


def _copy_jobs(
    connection: Connection,
    batch_id: UUID,
    lane: Lane,
    deadline: datetime | None,
    when: Due,
    submissions: Sequence[Submission],
    digests: Sequence[str],
    twins: Sequence[Twin | None],
) -> None:
    """By COPY: a batch may have a hundred thousand jobs. ``twins``: for each, the job whose pictures it takes over."""
    if not submissions:
        return
    now = connection.execute(select(func.clock_timestamp())).scalar_one()
    turns = take_turns(connection, submissions[0].owner, lane, [(one.spec.model, one.priority) for one in submissions])
    waits = WAITING | {"created_at": now}
    ids = sorted(new_id() for _ in submissions)  # their order is the order of the jobs

    def row(turn: int, job_id: UUID, one: Submission, digest: str, twin: Twin | None) -> tuple[Any, ...]:
        stands = twin.outcome if twin else waits
        return (
            job_id, batch_id, one.owner, one.custom_id, Jsonb(one.spec.to_json()), digest,
            one.spec.model, Jsonb(dict(one.metadata or {})), one.retried_from, one.fingerprint,
            lane.value, one.priority, turn, when.opens, deadline, when.rung, one.spec.evaluations,
            *(_adapt(stands[name]) for name in WAITING),
        )  # fmt: skip

    copy_rows(connection, "jobs", _COLUMNS, map(row, turns, ids, submissions, digests, twins))
    insert_pictures(connection, {job_id: twin for job_id, twin in zip(ids, twins, strict=True) if twin})


def _adapt(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict) else value


def _to_retry(connection: Connection, batch_id: UUID) -> list[Submission]:
    later = aliased(jobs)
    retried = select(literal(1)).where(later.c.batch_id == batch_id, later.c.retried_from == jobs.c.id).exists()
    over = jobs.c.status.in_([Status.FAILED, Status.EXPIRED])
    statement = select(jobs).where(jobs.c.batch_id == batch_id, over, ~retried).order_by(jobs.c.id)
    return [
        Submission(
            owner=row.owner,
            spec=JobSpec.from_json(row.spec),
            fingerprint=row.fingerprint,
            priority=row.priority,
            metadata=row.metadata,
            retried_from=row.id,
            custom_id=row.custom_id,
        )
        for row in connection.execute(statement)
    ]
