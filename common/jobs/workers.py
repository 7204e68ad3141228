"""Which worker processes there are: they enter themselves, give signs of life, and leave. By the database's clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Engine, Uuid, delete, func, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.sql.elements import ColumnElement

from common.db import reading, transaction
from common.jobs.tables import is_running, jobs, workers

WorkerState = Literal["starting", "ready", "unready", "stopping", "failed"]  # unready: too many attempts failed


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process and what it is doing."""

    id: str
    state: WorkerState
    detail: str
    models: tuple[str, ...]
    device: str
    seats: int
    running: int
    jobs: tuple[UUID, ...]  # of those running, the ones that are the asking owner's
    evaluations_per_second: float | None
    figures: Mapping[str, Any]  # of its engine now, by name; a worker of an earlier version may lack some
    recipes: Mapping[str, Any]  # by model, what the recipe of any picture would say of weights and libraries
    started_at: datetime
    seen_at: datetime
    age: timedelta  # since it entered itself


def record_worker(
    engine: Engine,
    worker_id: str,
    *,
    state: WorkerState,
    models: Sequence[str],
    device: str,
    seats: int,
    figures: Mapping[str, Any],
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
    detail: str = "",
    evaluations_per_second: float | None = None,
) -> None:
    """Enter the worker, or renew its sign of life and what is known of it.

    ``recipes``: for each model that it has loaded, what the recipe of any picture would say of weights and libraries.
    """
    entry = {
        "state": state,
        "detail": detail,
        "models": list(models),
        "device": device,
        "seats": seats,
        "evaluations_per_second": evaluations_per_second,
        "figures": figures,
        "recipes": recipes or {},
    }
    statement = (
        insert(workers)
        .values(id=worker_id, **entry)
        .on_conflict_do_update(index_elements=["id"], set_=entry | {"seen_at": func.clock_timestamp()})
    )
    with transaction(engine) as connection:
        connection.execute(statement)


def remove_worker(engine: Engine, worker_id: str) -> None:
    """Strike out a worker that has stopped in good order."""
    with transaction(engine) as connection:
        connection.execute(delete(workers).where(workers.c.id == worker_id))


def forget_workers(engine: Engine, *, silent_seconds: float) -> int:
    """Strike out workers silent for so long that nobody asks for them any more; returns how many."""
    with transaction(engine) as connection:
        return connection.execute(delete(workers).where(~alive(timedelta(seconds=silent_seconds)))).rowcount


def list_workers(engine: Engine, *, alive_seconds: float, owner: str | None = None) -> list[Worker]:
    """Workers that gave a sign of life within ``alive_seconds``, the newest first; of jobs, ``owner``'s are named."""
    here = is_running & (jobs.c.worker == workers.c.id)
    running = select(func.count()).where(here).scalar_subquery()
    own = select(jobs.c.id).where(here, jobs.c.owner == owner).order_by(jobs.c.id).scalar_subquery()
    age = func.clock_timestamp() - workers.c.started_at
    statement = (
        select(workers, running.label("running"), func.array(own, type_=ARRAY(Uuid)).label("jobs"), age.label("age"))
        .where(alive(timedelta(seconds=alive_seconds)))
        .order_by(workers.c.started_at.desc())
    )
    with reading(engine) as connection:
        rows = connection.execute(statement).all()
    return [Worker(**{**row._mapping, "models": tuple(row.models), "jobs": tuple(row.jobs)}) for row in rows]


def alive(silence: timedelta | ColumnElement[timedelta]) -> ColumnElement[bool]:
    """The condition that a worker has been silent for at most so long."""
    return workers.c.seen_at > func.clock_timestamp() - silence
