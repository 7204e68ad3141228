"""When the jobs of a batch may start: its window and the database's clock in; opening and closing, as instants, out."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from common.jobs.window import Window

# When a paused job may start. Not PostgreSQL's infinity, which Python's datetime cannot hold
PAUSED = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Due:
    """When jobs may start, whether that is later than now, and until when; None: for good."""

    opens: datetime
    later: bool
    closes: datetime | None

    @property
    def rung(self) -> datetime | None:
        """When the message was sent: with the commit, or not yet."""
        return None if self.later else self.opens


def due(connection: Connection, window: Window | None) -> Due:
    """By the database's clock."""
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    if window is None:
        return Due(now, False, None)
    span = window.span(now)
    return Due(max(now, span.opens), span.opens > now, span.closes)


def window_of(batch: Row[Any]) -> Window | None:
    return Window.from_json(batch.window) if batch.window else None
