"""The life of a claimed job: extend, save, succeed, retry, fail, cancel, park. The claim is in claim.py.

Every write after the claim shows the lease's token in its WHERE clause. "No row changed" means that the lease is
lost, never success. Time is the database's clock throughout: clocks give liveness, the token gives safety.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, and_, case, func, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from common.db import reading, transaction
from common.errors import KilnError, LeaseLost, NotNow, as_json
from common.ids import new_id
from common.jobs.charge import CLOCK, EXCUSABLE, NO_LEASE, as_column, charge
from common.jobs.claim import Claim
from common.jobs.state import Stage, Status
from common.jobs.tables import images, is_running, jobs

# What was asked of a job while it runs. When it was claimed its time had come: a later one was given to it since
_WISHES = (jobs.c.cancel_requested_at.is_not(None).label("cancel"), (jobs.c.not_before > CLOCK).label("wait"))

_ANSWER = (jobs.c.lease_token, jobs.c.cancel_requested_at.is_not(None).label("cancel"))
_AGAIN = (0.0, 0.05, 0.1, 0.2, 0.2)  # pauses before each try to extend what others write at that moment, in seconds
_TEXTS = ("styled_prompt", "enhanced_prompt")

Wishes = Mapping[UUID, Row[Any]]  # by token


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One picture as the images table records it. A picture that keep_best dropped has no object: its key is None."""

    index: int
    seed: int
    width: int
    height: int
    clip_score: float
    key: str | None = None
    thumbnail_key: str | None = None
    content_type: str | None = None
    bytes: int | None = None
    sha256: str | None = None


def extend_leases(engine: Engine, tokens: Sequence[UUID], lease_seconds: float) -> dict[UUID, bool]:
    """Prolong every lease of ``tokens`` that still stands: token -> has its user asked to cancel?

    A token missing from the answer is lost. A lease that ran out and was not taken is prolonged too, or a database
    outage would kill good work; none is prolonged beyond its run deadline. A job that somebody else is writing is not
    waited for, as others would stand still with it: it is tried again for half a second, and then by the next beat.
    """
    extended: dict[UUID, bool] = {}
    standing: dict[UUID, bool] = {}
    for pause in _AGAIN:
        time.sleep(pause)
        mine = jobs.c.lease_token.in_([token for token in tokens if token not in extended]) & is_running
        with transaction(engine) as connection:
            extended |= _extend(connection, mine, lease_seconds)
            if len(extended) == len(tokens):
                break
            standing = {row.lease_token: row.cancel for row in connection.execute(select(*_ANSWER).where(mine))}
        if standing.keys() <= extended.keys():
            break
    return standing | extended


def read_wishes(engine: Engine, claims: Collection[Claim]) -> Wishes:
    """What was asked of these jobs since they were claimed. Lost leases are missing from the answer. Writes nothing."""
    mine = jobs.c.id.in_([claim.job_id for claim in claims]) & jobs.c.lease_token.in_([one.token for one in claims])
    with reading(engine) as connection:
        return {row.lease_token: row for row in connection.execute(select(jobs.c.lease_token, *_WISHES).where(mine))}


def heed(claim: Claim, wishes: Wishes) -> bool:
    """Whether the job is to be canceled. Raises LeaseLost where its lease no longer stands, NotNow where it is to
    wait."""
    row = wishes.get(claim.token)
    if row is None:
        raise _lost(claim)
    return _heed(row.cancel, row.wait)


def save(engine: Engine, claim: Claim, *, stage: Stage, done: int, texts: Mapping[str, str] | None = None) -> bool:
    """Record how far the job is: its stage, U-Net evaluations done, and texts (styled and enhanced prompt).

    Returns whether its user has asked to cancel. Raises LeaseLost, and NotNow where the job is to wait.
    """
    values = {"stage": stage, "progress_done": done, **(texts or {})}
    row = _write(engine, claim, values, *_WISHES)
    return _heed(row.cancel, row.wait)


def succeed(
    engine: Engine,
    claim: Claim,
    stored: Sequence[StoredImage],
    *,
    recipe: Mapping[str, Any],
    timings: Mapping[str, Any],
) -> Status:
    """Finish the job with its images, in one transaction; the objects exist already.

    Returns SUCCEEDED, or CANCELED where the cancel came first: then no image is recorded. Repeating it after a
    broken connection is safe: a finish of this same attempt that took effect is recognised. Raises LeaseLost.
    """
    asked = jobs.c.cancel_requested_at.is_not(None)
    statement = (
        update(jobs)
        .where(_held(claim))
        .values(
            status=case((asked, Status.CANCELED), else_=Status.SUCCEEDED),
            **{text: recipe[text] for text in _TEXTS if text in recipe},  # of old, where the database was away since
            recipe=dict(recipe),
            timings=dict(timings),
            stage=None,
            progress_done=case((asked, jobs.c.progress_done), else_=jobs.c.progress_total),
            finished_at=CLOCK,
            **NO_LEASE,
        )
        .returning(jobs.c.status)
    )
    with transaction(engine) as connection:
        status = connection.execute(statement).scalar_one_or_none()
        if status is None:
            return _earlier_finish(connection, claim)
        if status == Status.SUCCEEDED:
            rows = [{"job_id": claim.job_id, "id": new_id(), "kept": s.key is not None, **asdict(s)} for s in stored]
            connection.execute(insert(images), rows)
    return Status(status)


def fail(engine: Engine, claim: Claim, error: KilnError) -> None:
    """End the job: trying again would not help. Raises LeaseLost."""
    _write(engine, claim, _ended(Status.FAILED) | {"failures": jobs.c.failures + 1, "error": as_json(error)})


def retry(engine: Engine, claim: Claim, error: KilnError, *, max_failures: int) -> Status:
    """Give the job back after an error that may pass; a failure is charged.

    Returns QUEUED, or FAILED where its failures are used up, or CANCELED where that was asked. Raises LeaseLost.
    """
    row = _write(engine, claim, charge(as_column(error), max_failures), jobs.c.status)
    return Status(row.status)


def excuse(engine: Engine, claim: Claim, error: KilnError, *, max_failures: int) -> Status:
    """Give the job back uncharged, for it does not look like its fault: counted, and beyond EXCUSES as retry() does."""
    row = _write(engine, claim, charge(as_column(error), max_failures, excused=EXCUSABLE), jobs.c.status)
    return Status(row.status)


def cancel(engine: Engine, claim: Claim) -> None:
    """End the job as its user asked. Raises LeaseLost."""
    _write(engine, claim, _ended(Status.CANCELED))


def park(engine: Engine, claim: Claim) -> None:
    """Give the job back unharmed, as its worker or it itself is to stop: no failure is charged. Raises LeaseLost."""
    asked = jobs.c.cancel_requested_at.is_not(None)
    values = NO_LEASE | {
        "status": case((asked, Status.CANCELED), else_=Status.QUEUED),
        "finished_at": case((asked, CLOCK)),
        "stage": None,
        "published_at": None,
    }
    _write(engine, claim, values)


def _extend(connection: Connection, mine: ColumnElement[bool], lease_seconds: float) -> dict[UUID, bool]:
    """Of these jobs, prolong the leases of those that nobody is writing."""
    free = select(jobs.c.id).where(mine).with_for_update(skip_locked=True, key_share=True).cte("free")
    until = func.least(CLOCK + timedelta(seconds=lease_seconds), jobs.c.run_deadline_at)
    statement = update(jobs).where(jobs.c.id == free.c.id, mine).values(lease_expires_at=until).returning(*_ANSWER)
    return {row.lease_token: row.cancel for row in connection.execute(statement)}


def _held(claim: Claim) -> ColumnElement[bool]:
    """The guard of every write: this job, this token, still running."""
    return and_(jobs.c.id == claim.job_id, jobs.c.lease_token == claim.token, is_running)


def _write(engine: Engine, claim: Claim, values: Mapping[str, Any], *answer: ColumnElement[Any]) -> Row[Any]:
    """Update the held row and return ``answer`` from it, or raise LeaseLost."""
    statement = update(jobs).where(_held(claim)).values(values).returning(jobs.c.id, *answer)
    with transaction(engine) as connection:
        row = connection.execute(statement).one_or_none()
    if row is None:
        raise _lost(claim)
    return row


def _heed(cancel: bool, wait: bool) -> bool:
    """Whether the job is to be canceled, which goes before waiting."""
    if wait and not cancel:
        raise NotNow
    return cancel


def _ended(status: Status) -> dict[str, Any]:
    return NO_LEASE | {"status": status, "stage": None, "finished_at": CLOCK}


def _earlier_finish(connection: Connection, claim: Claim) -> Status:
    """What became of this attempt, where an earlier finish of it took effect unseen; else LeaseLost."""
    row = connection.execute(
        select(jobs.c.status).where(
            jobs.c.id == claim.job_id, jobs.c.attempt == claim.attempt, jobs.c.status == Status.SUCCEEDED
        )
    ).one_or_none()
    if row is None:
        raise _lost(claim)
    return Status.SUCCEEDED


def _lost(claim: Claim) -> LeaseLost:
    return LeaseLost(f"job {claim.job_id}: the lease of attempt {claim.attempt} no longer stands")
