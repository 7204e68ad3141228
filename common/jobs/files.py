"""Files of lines that OpenAI's clients make batches of: an owner and bytes in, a row out, until it is deleted."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine, RowMapping, delete, func, insert, select

from common.db import reading, transaction
from common.errors import Conflict, NotFound
from common.ids import new_id
from common.jobs.tables import files

PIECE = 4 << 20  # bytes: PostgreSQL unpacks all that stands before a piece


@dataclass(frozen=True, slots=True)
class File:
    """One file, without its content."""

    id: UUID
    owner: str
    name: str
    bytes: int
    created_at: datetime


_COLUMNS = [files.c[name] for name in File.__dataclass_fields__]


def keep_file(engine: Engine, owner: str, name: str, content: bytes, *, most: int) -> File:
    """Store the file. Raises Conflict where all of the owner's files would have over ``most`` bytes."""
    with transaction(engine) as connection:
        held = select(func.coalesce(func.sum(files.c.bytes), 0)).where(files.c.owner == owner)
        if connection.execute(held).scalar_one() + len(content) > most:
            raise Conflict(f"your files may have {most} bytes in all: delete some that you need no more")
        values = {"id": new_id(), "owner": owner, "name": name, "bytes": len(content), "content": content}
        return _as_file(connection.execute(insert(files).values(values).returning(*_COLUMNS)).one()._mapping)


def get_file(engine: Engine, owner: str, file_id: UUID) -> File | None:
    """The owner's file, or None."""
    with reading(engine) as connection:
        row = connection.execute(select(*_COLUMNS).where(files.c.id == file_id, files.c.owner == owner)).one_or_none()
    return _as_file(row._mapping) if row else None


def read_file(engine: Engine, owner: str, file_id: UUID) -> tuple[File, bytes] | None:
    """The owner's file and its content, or None."""
    mine = (files.c.id == file_id) & (files.c.owner == owner)
    with reading(engine) as connection:
        row = connection.execute(select(*_COLUMNS, files.c.content).where(mine)).one_or_none()
    return (_as_file(row._mapping), row.content) if row else None


def read_pieces(engine: Engine, owner: str, file: File) -> Iterator[bytes]:
    """The content of the owner's file, a few MiB at a time. Raises NotFound where it is deleted meanwhile."""
    mine = (files.c.id == file.id) & (files.c.owner == owner)
    for start in range(1, file.bytes + 1, PIECE):
        with reading(engine) as connection:
            piece = select(func.substring(files.c.content, start, PIECE)).where(mine)
            found = connection.execute(piece).scalar_one_or_none()
        if found is None:
            raise NotFound("the file was deleted while it was read")
        yield found


def list_files(
    engine: Engine, owner: str, *, after: UUID | None, limit: int, newest_first: bool
) -> tuple[list[File], bool]:
    """The owner's files, those behind ``after``; and whether there are more."""
    wanted = files.c.owner == owner
    if after is not None:
        wanted &= files.c.id < after if newest_first else files.c.id > after
    order = files.c.id.desc() if newest_first else files.c.id.asc()
    with reading(engine) as connection:
        rows = connection.execute(select(*_COLUMNS).where(wanted).order_by(order).limit(limit + 1)).all()
    return [_as_file(row._mapping) for row in rows[:limit]], len(rows) > limit


def delete_file(engine: Engine, owner: str, file_id: UUID) -> bool:
    """Whether the owner had such a file. Batches that were made of it stay as they are."""
    with transaction(engine) as connection:
        mine = (files.c.id == file_id) & (files.c.owner == owner)
        return connection.execute(delete(files).where(mine)).rowcount == 1


def forget_files(engine: Engine, *, days: float) -> int:
    """Delete what was uploaded over ``days`` ago; returns how many."""
    with transaction(engine) as connection:
        old = files.c.created_at < func.clock_timestamp() - timedelta(days=days)
        return connection.execute(delete(files).where(old)).rowcount


def _as_file(row: RowMapping) -> File:
    return File(**{name: row[name] for name in File.__dataclass_fields__})
