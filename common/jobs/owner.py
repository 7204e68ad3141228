"""What an owner can do to a job that stands: cancel it, or delete it when it has finished."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, case, delete, func, select, update

from common.db import transaction
from common.errors import Conflict
from common.jobs.garbage import unnamed
from common.jobs.state import TERMINAL, Status
from common.jobs.tables import images, is_queued, is_running, jobs

# What canceling writes into a job that is not over
CANCELED: dict[str, Any] = {
    "cancel_requested_at": func.coalesce(jobs.c.cancel_requested_at, func.clock_timestamp()),
    "status": case((is_queued, Status.CANCELED), else_=jobs.c.status),
    "finished_at": case((is_queued, func.clock_timestamp())),
}


def cancel_job(engine: Engine, owner: str, job_id: UUID) -> None:
    """Cancel a queued job at once; ask the worker of a running one to, at its next step. Others stay as they are."""
    with transaction(engine) as connection:
        mine = (jobs.c.id == job_id) & (jobs.c.owner == owner)
        connection.execute(update(jobs).where(mine, is_queued | is_running).values(CANCELED))


def delete_job(engine: Engine, owner: str, job_id: UUID) -> list[str] | None:
    """Remove a finished job's row and its images' rows; returns the object keys that nothing points at any more.

    None where the owner has no such job. Raises Conflict while the job is queued or running.
    """
    with transaction(engine) as connection:
        mine = (jobs.c.id == job_id) & (jobs.c.owner == owner)
        status = connection.execute(select(jobs.c.status).where(mine).with_for_update()).scalar_one_or_none()
        if status is None:
            return None
        if status not in TERMINAL:
            raise Conflict(f"the job is {status}: cancel it first")
        return remove_jobs(connection, [job_id])


def remove_jobs(connection: Connection, ids: Sequence[UUID]) -> list[str]:
    """Delete the rows of these jobs, and all that goes with them; returns the object keys that nothing points at then.

    The caller has locked the jobs and seen that they are over.
    """
    stored = connection.execute(
        select(images.c.key, images.c.thumbnail_key).where(images.c.job_id.in_(ids), images.c.kept)
    ).all()
    connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
    return unnamed(connection, [key for row in stored for key in row])
