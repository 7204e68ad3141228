"""Room in the queue: a limit in, whether more jobs wait than that out, and seldom counts them.

A count is remembered with the number of the latest event. Every job that begins to wait writes an event, so no more
can wait now than were counted then and events were written since. Only where that reaches the limit is counted anew.
"""

from datetime import timedelta

from sqlalchemy import Connection, func, literal_column, select
from sqlalchemy.sql.elements import ColumnElement

from common.jobs.tables import INSTANT, is_queued, jobs

# Also of what is not committed yet: the next one has a higher number
latest_event: ColumnElement[int] = literal_column(
    "(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM events_id_seq)"
)


def is_beyond(connection: Connection, limit: int, event: int, owner: str | None = None) -> bool:
    """Whether more than ``limit`` jobs wait, or of ``owner`` alone: the committed ones and this transaction's own.

    ``event`` is the number of the latest event, or a later one. What was counted is remembered with the connection.
    """
    counts: dict[str | None, tuple[int, int]] = connection.info.setdefault("waiting", {})
    if owner in counts:
        count, then = counts[owner]
        if count + event - then <= limit:
            return False
    count = _count(connection, owner, limit + 1)
    if count > limit:
        return True
    counts[owner] = count, event
    return False


def count_reused(connection: Connection, owner: str, most: int) -> int:
    """How many jobs of the owner took over the pictures of an equal one within the last minute; counted up to ``most``.

    By when they ended, which is when they came: so no more is looked at than ended in that minute.
    """
    recent = (jobs.c.finished_at > INSTANT - timedelta(minutes=1)) & jobs.c.reused_from.is_not(None)
    reused = select(jobs.c.id).where(recent, jobs.c.owner == owner).limit(most)
    return connection.execute(select(func.count()).select_from(reused.subquery())).scalar_one()


def _count(connection: Connection, owner: str | None, most: int) -> int:
    waiting = select(jobs.c.lane).where(is_queued)
    if owner is not None:
        waiting = waiting.where(jobs.c.owner == owner)
    return connection.execute(select(func.count()).select_from(waiting.limit(most).subquery())).scalar_one()
