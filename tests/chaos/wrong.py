"""Workers that do wrong what Kiln does right, for the negative controls: each function breaks its own process."""

from uuid import UUID

from sqlalchemy import and_
from sqlalchemy.sql.elements import ColumnElement

from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.tables import is_running, jobs
from worker.stages import store


def unfenced() -> None:
    """N1: jobs are finished without showing the token, as most queues do."""

    def held_by_anybody(claim: Claim) -> ColumnElement[bool]:
        return and_(jobs.c.id == claim.job_id, is_running)

    lease._held = held_by_anybody


def overwriting() -> None:
    """N2: a picture's key says nothing of the attempt, so that each one overwrites what the one before it stored."""

    def shared_key(job_id: UUID, attempt: int, index: int, extension: str) -> str:
        return f"images/{job_id.hex}/{index}.{extension}"

    store.object_key = shared_key
