"""How batches stand: an owner and an id in; the batch, its jobs counted by status, and its pace out. Reads only."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, func, select
from sqlalchemy.sql.elements import ColumnElement

from common.db import reading
from common.jobs.state import TERMINAL, BatchStatus, Status
from common.jobs.tables import batches, images, jobs, workers
from common.jobs.workers import alive

Crew = Sequence[Row[list[str], float | None]]  # a row of models and evaluations_per_second each

_RECENT = 1000  # pictures: enough to tell how large the next ones will be


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as it stands. Its times are those of its first and last job."""

    id: UUID
    owner: str
    name: str
    metadata: Mapping[str, str]
    lane: str
    deadline: datetime | None
    window: Mapping[str, Any] | None
    closes_at: datetime | None
    keep_best: int | None
    webhook: Mapping[str, Any] | None
    input_file_id: UUID | None
    pruned_at: datetime | None  # when keep_best was applied
    created_at: datetime
    paused_at: datetime | None
    canceled_at: datetime | None
    counts: Mapping[Status, int]
    done: int  # U-Net evaluations
    total: int
    started_at: datetime | None
    finished_at: datetime | None  # None until all jobs are over
    eta_seconds: float | None  # None where no live worker can tell

    @property
    def status(self) -> BatchStatus:
        if self.canceled_at is not None:
            return BatchStatus.CANCELED
        if all(status in TERMINAL for status in self.counts):
            return BatchStatus.COMPLETED
        if self.paused_at is not None:
            return BatchStatus.PAUSED
        return BatchStatus.RUNNING if self.started_at else BatchStatus.QUEUED


def get_batch(engine: Engine, owner: str, batch_id: UUID, *, alive_seconds: float) -> Batch | None:
    """The owner's batch, or None."""
    mine = (batches.c.id == batch_id) & (batches.c.owner == owner)
    found, _ = _select_batches(engine, mine, limit=1, alive_seconds=alive_seconds)
    return found[0] if found else None


def list_batches(
    engine: Engine, owner: str, *, after: UUID | None, limit: int, alive_seconds: float
) -> tuple[list[Batch], bool]:
    """The owner's batches, newest first, those older than ``after``; and whether there are more."""
    wanted = batches.c.owner == owner
    if after is not None:
        wanted &= batches.c.id < after
    return _select_batches(engine, wanted, limit=limit, alive_seconds=alive_seconds)


def seconds_for(engine: Engine, evaluations: int, models: Collection[str], *, alive_seconds: float) -> float | None:
    """How long the live workers take for so many U-Net evaluations; None where there are none, or none is measured."""
    with reading(engine) as connection:
        return _seconds(evaluations, models, _crew(connection, alive_seconds))


def bytes_per_pixel(engine: Engine, owner: str) -> float | None:
    """Of the owner's newest stored pictures; None where there are none."""
    newest = (
        select(images.c.bytes, (images.c.width * images.c.height).label("pixels"))
        .join(jobs)
        .where(jobs.c.owner == owner, images.c.kept)
        .order_by(images.c.id.desc())
        .limit(_RECENT)
        .subquery()
    )
    with reading(engine) as connection:
        share = connection.execute(
            select(func.sum(newest.c.bytes) / func.nullif(func.sum(newest.c.pixels), 0.0))
        ).scalar_one()
    return None if share is None else float(share)


def _select_batches(
    engine: Engine, wanted: ColumnElement[bool], *, limit: int, alive_seconds: float
) -> tuple[list[Batch], bool]:
    """Three statements, however many batches."""
    with reading(engine) as connection:
        wanted &= batches.c.deleted_at.is_(None)
        rows = connection.execute(select(batches).where(wanted).order_by(batches.c.id.desc()).limit(limit + 1)).all()
        counted: dict[UUID, list[Row[Any]]] = {row.id: [] for row in rows[:limit]}
        for one in connection.execute(_COUNT.where(jobs.c.batch_id.in_(counted))):
            counted[one.batch_id].append(one)
        crew = _crew(connection, alive_seconds)
    return [_as_batch(row, counted[row.id], crew) for row in rows[:limit]], len(rows) > limit


_COUNT = select(
    jobs.c.batch_id,
    jobs.c.status,
    func.count().label("jobs"),
    func.sum(jobs.c.progress_done).label("done"),
    func.sum(jobs.c.progress_total).label("total"),
    func.min(jobs.c.started_at).label("started_at"),
    func.max(jobs.c.finished_at).label("finished_at"),
).group_by(jobs.c.batch_id, jobs.c.status)


def _as_batch(row: Row[Any], counted: list[Row[Any]], crew: Crew) -> Batch:
    live = [one for one in counted if one.status not in TERMINAL]
    left = sum(one.total - one.done for one in live)
    return Batch(
        **{name: row._mapping[name] for name in Batch.__dataclass_fields__ if name in row._mapping},
        counts={Status(one.status): one.jobs for one in counted},
        done=sum(one.done for one in counted),
        total=sum(one.total for one in counted),
        started_at=min((one.started_at for one in counted if one.started_at), default=None),
        finished_at=None if live else max((one.finished_at for one in counted), default=None),
        eta_seconds=_seconds(left, row.models, crew) if live else None,
    )


def _crew(connection: Connection, alive_seconds: float) -> Crew:
    """The models of each worker that is ready, and its U-Net evaluations per second."""
    ready = alive(timedelta(seconds=alive_seconds)) & (workers.c.state == "ready")
    return connection.execute(select(workers.c.models, workers.c.evaluations_per_second).where(ready)).all()


def _seconds(evaluations: int, models: Collection[str], crew: Crew) -> float | None:
    pace = sum(worker.evaluations_per_second or 0 for worker in crew if not set(models).isdisjoint(worker.models))
    return round(evaluations / pace, 1) if pace else None
