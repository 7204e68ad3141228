"""Retention: for how long what has ended is kept, in; what was deleted, and objects that nothing names then, out."""

from datetime import timedelta

from sqlalchemy import Engine, select

from common.db import transaction
from common.jobs.owner import remove_jobs
from common.jobs.tables import INSTANT, jobs


def forget_finished(engine: Engine, *, days: float, limit: int = 500) -> tuple[int, list[str]]:
    """Delete up to ``limit`` jobs that ended over ``days`` ago, with their images and events.

    Returns how many, and the keys of their objects, which nothing names any more: the caller removes them.
    """
    old = (
        select(jobs.c.id)
        .where(jobs.c.finished_at < INSTANT - timedelta(days=days))
        .order_by(jobs.c.finished_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    with transaction(engine) as connection:
        ids = connection.execute(old).scalars().all()
        return len(ids), remove_jobs(connection, ids)
