"""An owner and an id in, jobs and pictures out. Reads only; what belongs to others is not there."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, select
from sqlalchemy.sql.elements import ColumnElement, UnaryExpression

from common.db import reading
from common.jobs.spec import JobSpec
from common.jobs.state import Status
from common.jobs.tables import images, jobs

_NEWEST_FIRST = jobs.c.id.desc()
_PAGE = 200  # jobs read at once where all of a batch's are


@dataclass(frozen=True, slots=True)
class Image:
    """One picture of a succeeded job. ``key`` is None where keep_best dropped it."""

    id: UUID
    job_id: UUID
    index: int
    seed: int
    width: int
    height: int
    clip_score: float
    key: str | None
    thumbnail_key: str | None
    content_type: str | None
    bytes: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it stands in its row, with its images."""

    id: UUID
    owner: str
    spec: JobSpec
    status: Status
    lane: str
    priority: int
    turn: int
    not_before: datetime
    deadline: datetime | None
    metadata: Mapping[str, str]
    webhook: Mapping[str, Any] | None
    batch_id: UUID | None
    custom_id: str | None
    retried_from: UUID | None
    reused_from: UUID | None
    attempt: int
    worker: str | None
    stage: str | None
    progress_done: int
    progress_total: int
    styled_prompt: str | None
    enhanced_prompt: str | None
    recipe: Mapping[str, Any] | None
    timings: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    images: tuple[Image, ...]


def get_job(engine: Engine, owner: str, job_id: UUID) -> Job | None:
    """The owner's job, or None."""
    found = _select_jobs(engine, (jobs.c.id == job_id) & (jobs.c.owner == owner), limit=1)
    return found[0] if found else None


def list_jobs(
    engine: Engine,
    owner: str,
    *,
    status: Status | None = None,
    batch_id: UUID | None = None,
    after: UUID | None = None,
    limit: int,
) -> tuple[list[Job], bool]:
    """The owner's jobs, newest first, those older than ``after``; and whether there are more."""
    wanted = jobs.c.owner == owner
    if status is not None:
        wanted &= jobs.c.status == status
    if batch_id is not None:
        wanted &= jobs.c.batch_id == batch_id
    if after is not None:
        wanted &= jobs.c.id < after
    found = _select_jobs(engine, wanted, limit=limit + 1)
    return found[:limit], len(found) > limit


def list_ended(engine: Engine, owner: str, batch_id: UUID, *, after: UUID | None, limit: int) -> list[Job]:
    """Jobs of the owner's batch that are over, in the order in which they were asked for, from behind ``after`` on."""
    wanted = (jobs.c.batch_id == batch_id) & (jobs.c.owner == owner) & jobs.c.finished_at.is_not(None)
    if after is not None:
        wanted &= jobs.c.id > after
    return _select_jobs(engine, wanted, limit=limit, order=jobs.c.id.asc())


def each_ended(engine: Engine, owner: str, batch_id: UUID) -> Iterator[Job]:
    """All of them, read a page after the other: no connection is held between two of them."""
    after: UUID | None = None
    while page := list_ended(engine, owner, batch_id, after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def get_image(engine: Engine, owner: str, image_id: UUID) -> Image | None:
    """The picture, where it belongs to a job of this owner."""
    statement = select(images).join(jobs).where(images.c.id == image_id, jobs.c.owner == owner)
    with reading(engine) as connection:
        row = connection.execute(statement).one_or_none()
    return as_image(row) if row else None


def kept_images(engine: Engine, job_ids: Collection[UUID]) -> dict[UUID, list[Image]]:
    """The kept pictures of each of these jobs that has some, whoever's they are: for who has looked at that before."""
    with reading(engine) as connection:
        return _by_job(connection, images.c.job_id.in_(job_ids) & images.c.kept)


def _select_jobs(
    engine: Engine, wanted: ColumnElement[bool], *, limit: int, order: UnaryExpression[UUID] = _NEWEST_FIRST
) -> list[Job]:
    with reading(engine) as connection:
        rows = connection.execute(select(jobs).where(wanted).order_by(order).limit(limit)).all()
        done = [row.id for row in rows if row.status == Status.SUCCEEDED]
        pictures = _by_job(connection, images.c.job_id.in_(done)) if done else {}
    return [_as_job(row, pictures.get(row.id, ())) for row in rows]


def _by_job(connection: Connection, wanted: ColumnElement[bool]) -> dict[UUID, list[Image]]:
    found: dict[UUID, list[Image]] = {}
    for row in connection.execute(select(images).where(wanted).order_by(images.c.index)):
        found.setdefault(row.job_id, []).append(as_image(row))
    return found


def _as_job(row: Row[Any], pictures: Sequence[Image]) -> Job:
    values = {name: row._mapping[name] for name in Job.__dataclass_fields__ if name not in ("spec", "images")}
    values["status"] = Status(values["status"])
    return Job(spec=JobSpec.from_json(row.spec), images=tuple(pictures), **values)


def as_image(row: Row[Any]) -> Image:
    """A row that has the columns of images, among others."""
    return Image(**{name: row._mapping[name] for name in Image.__dataclass_fields__})
