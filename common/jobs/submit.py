"""A resolved request in, one queued row out: inserted once per idempotency key, and never beyond the queue's limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, func, update
from sqlalchemy.dialects.postgresql import insert

from common.db import transaction
from common.errors import QueueFull
from common.fault import fault
from common.ids import new_id
from common.jobs.line import next_turn
from common.jobs.replay import first_under_key
from common.jobs.reuse import ALIVE_SECONDS, Twin, find_twins, insert_pictures
from common.jobs.room import is_beyond, latest_event
from common.jobs.spec import JobSpec
from common.jobs.state import Lane
from common.jobs.tables import is_queued, jobs


@dataclass(frozen=True, slots=True)
class Submission:
    """One job as it enters the queue: for whom, what, and when."""

    owner: str
    spec: JobSpec
    fingerprint: str  # hash of the request as sent, where it has a key: tells a repeated request from another
    lane: Lane = Lane.INTERACTIVE
    priority: int = 0
    not_before: datetime | None = None
    deadline: datetime | None = None
    metadata: Mapping[str, str] | None = None
    idempotency_key: str | None = None
    retried_from: UUID | None = None
    custom_id: str | None = None  # what its batch calls it
    webhook: Mapping[str, Any] | None = None  # who is told of its end: url, host, events
    reuse: bool = True  # whether an equal job's pictures will do


@dataclass(frozen=True, slots=True)
class Receipt:
    """Which job a submission became; ``replayed`` where its idempotency key had made it before, ``reused`` where it
    was over at once."""

    job_id: UUID
    replayed: bool
    reused: bool = False


def submit_job(
    engine: Engine,
    submission: Submission,
    *,
    max_queued: int,
    max_queued_per_owner: int | None = None,
    alive_seconds: float = ALIVE_SECONDS,
) -> Receipt:
    """Insert the job and commit: as one that waits, or with the pictures of an equal one that a live worker would
    paint alike, one that gave a sign of life within ``alive_seconds``.

    Raises IdempotencyMismatch where the key stands for another request, QueueFull at ``max_queued`` queued jobs
    or ``max_queued_per_owner`` of this owner (None: no limit of its own), Unavailable where the database is down.
    Nothing is stored then. Jobs submitted at the same moment do not see each other, and may pass a limit together.
    """
    with transaction(engine) as connection:
        return insert_job(
            connection,
            submission,
            max_queued=max_queued,
            max_queued_per_owner=max_queued_per_owner,
            alive_seconds=alive_seconds,
        )


def insert_job(
    connection: Connection,
    submission: Submission,
    *,
    max_queued: int,
    max_queued_per_owner: int | None,
    alive_seconds: float = ALIVE_SECONDS,
) -> Receipt:
    """submit_job() as a part of the caller's transaction."""
    digest = submission.spec.digest()
    wanted = [digest] if submission.reuse else []
    twin = find_twins(connection, submission.owner, wanted, alive_seconds=alive_seconds).get(digest)
    inserted = _insert(connection, submission, twin)
    if inserted is None:
        key, sent = submission.idempotency_key, submission.fingerprint
        first = first_under_key(connection, jobs, submission.owner, key, sent)
        assert first is not None  # noqa: S101 - only a key's row is in the way of an insert
        return Receipt(first, replayed=True)
    if twin:
        insert_pictures(connection, {inserted.id: twin})
        return Receipt(inserted.id, replayed=False, reused=True)
    event = inserted.latest_event + 1  # its own
    if is_beyond(connection, max_queued, event):
        raise QueueFull(f"the queue is full: {max_queued} jobs are waiting")
    if max_queued_per_owner is not None and is_beyond(connection, max_queued_per_owner, event, submission.owner):
        raise QueueFull(f"your share of the queue is full: {max_queued_per_owner} jobs of yours are waiting")
    fault("inserted")
    return Receipt(inserted.id, replayed=False)


def unheard(engine: Engine, job_id: UUID) -> None:
    """Note that the job's message was not sent: the sweeper sends it as soon as the broker is back."""
    with transaction(engine) as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id, is_queued).values(published_at=None))


def _insert(connection: Connection, submission: Submission, twin: Twin | None) -> Row[Any] | None:
    """The new job's id, and the latest event before it; None where the owner has used this idempotency key already."""
    statement = (
        insert(jobs)
        .values(
            {
                "id": new_id(),
                "owner": submission.owner,
                "spec": submission.spec.to_json(),
                "spec_digest": submission.spec.digest(),
                "model": submission.spec.model,
                "metadata": dict(submission.metadata or {}),
                "retried_from": submission.retried_from,
                "idempotency_key": submission.idempotency_key,
                "fingerprint": submission.fingerprint,
                "lane": submission.lane,
                "priority": submission.priority,
                "turn": next_turn(submission.owner, submission.spec.model, submission.lane, submission.priority),
                "not_before": submission.not_before or func.clock_timestamp(),
                "deadline": submission.deadline,
                # The message follows the commit at once; unheard() takes this back where it could not be sent
                "published_at": None if submission.not_before else func.clock_timestamp(),
                "progress_total": submission.spec.evaluations,
                "webhook": dict(submission.webhook) if submission.webhook else None,
            }
            | (dict(twin.outcome) if twin else {})
        )
        .on_conflict_do_nothing(constraint="jobs_idempotency")
        .returning(jobs.c.id, latest_event.label("latest_event"))
    )
    return connection.execute(statement).one_or_none()
