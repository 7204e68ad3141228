"""Garbage: the bucket's objects in; those that no row of the database names, out. Reads only.

What a lost attempt uploaded, what a deleted job left behind, what a worker died before removing. Nothing else in the
bucket is touched: only keys that Kiln itself would write are looked at.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from sqlalchemy import Connection, Engine, select

from common.db import reading
from common.jobs.tables import images, is_queued, is_running, jobs
from common.objects import Entry, Objects

SHAPES = (
    re.compile(r"images/(?P<job>[0-9a-f]{32})/\d+/\d+\.[a-z]+(\.webp)?"),
    re.compile(r"checkpoints/(?P<job>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})/\d{6}\.safetensors"),
)
FOLDERS = ("images/", "checkpoints/")
YOUNGEST = timedelta(days=1)

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects of the bucket: how many were looked at, and those of them that no row names."""

    seen: int
    garbage: Sequence[Entry]

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.garbage)


def settled_before(job_seconds: float) -> datetime:
    """What was put before then is older than a day, and than any attempt that still runs."""
    return datetime.now(UTC) - max(YOUNGEST, timedelta(seconds=2 * job_seconds))


def find_garbage(engine: Engine, objects: Objects, *, before: datetime) -> Iterator[Page]:
    """Every object that was put ``before``, page by page. Raises StorageError and Unavailable.

    Rows are read after the objects were listed. A job's row comes before its first object and names its pictures once
    for all when it ends: so what no row names then, and belongs to no job that goes on, will be named by none.
    """
    for folder in FOLDERS:
        old = (entry for entry in objects.entries(folder) if entry.modified < before)
        while page := list(islice(old, _PAGE)):
            yield Page(len(page), _unnamed(engine, page))


def _unnamed(engine: Engine, entries: Sequence[Entry]) -> list[Entry]:
    owners = {entry: job for entry in entries if (job := job_of(entry.key))}
    ids = set(owners.values())
    with reading(engine) as connection:
        live = set(connection.execute(select(jobs.c.id).where(jobs.c.id.in_(ids), is_queued | is_running)).scalars())
        named = _named(connection, ids)
    return [entry for entry, job in owners.items() if job not in live and entry.key not in named]


def unnamed(connection: Connection, keys: Sequence[str]) -> list[str]:
    """Those of ``keys`` that no row names, or not any more. A job that is being submitted is waited for where it takes
    them over; the caller has removed rows before, in the same transaction."""
    named = _named(connection, {job for key in keys if (job := job_of(key))})
    return [key for key in keys if key not in named]


def _named(connection: Connection, ids: Collection[UUID]) -> set[str]:
    """The keys of objects of these jobs that rows name: their own, and those of jobs that took their pictures over."""
    painted = jobs.c.id.in_(ids) | jobs.c.reused_from.in_(ids)
    rows = connection.execute(select(images.c.key, images.c.thumbnail_key).join(jobs).where(painted, images.c.kept))
    return {key for row in rows for key in row}


def job_of(key: str) -> UUID | None:
    """The job under whose name Kiln put the object there; None where Kiln did not."""
    found = next((match for shape in SHAPES if (match := shape.fullmatch(key))), None)
    return UUID(found["job"]) if found else None
