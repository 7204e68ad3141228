"""Reuse: an owner's wishes in; for each that a succeeded job of theirs has answered, its outcome and pictures out.

A reused job is over as soon as it is submitted, and its pictures are the same objects: what removes objects asks
first whether another row names them (garbage.py). For their pixels to be equal, weights and libraries must be too:
workers say what they would paint with.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Connection, Row, Text, bindparam, func, insert, literal_column, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from common.ids import new_id
from common.jobs.state import Status
from common.jobs.tables import images, jobs, workers
from common.jobs.workers import alive

ALIVE_SECONDS = 60.0  # the lease that Kiln has unless it is told otherwise
_SLICE = 5000  # digests of one look
_is_succeeded = jobs.c.status == literal_column("'succeeded'")
_COPIED = [column.name for column in images.c if column.name not in ("job_id", "id")]


@dataclass(frozen=True, slots=True)
class Twin:
    """A succeeded job, as another that asks for the same pixels takes it over."""

    outcome: Mapping[str, Any]  # columns of the new job's row
    pictures: tuple[Mapping[str, Any], ...]  # columns of its images' rows

    @classmethod
    def from_rows(cls, rows: list[Row[Any]], at: datetime) -> Self:
        first = rows[0]
        return cls(
            outcome={
                "status": Status.SUCCEEDED.value,
                "reused_from": first.reused_from or first.job_id,  # whose attempt made the objects
                "styled_prompt": first.styled_prompt,
                "enhanced_prompt": first.enhanced_prompt,
                "recipe": first.recipe,
                "progress_done": first.progress_total,
                "created_at": at,
                "finished_at": at,
            },
            pictures=tuple({name: row._mapping[name] for name in _COPIED} for row in rows),
        )


def find_twins(
    connection: Connection, owner: str, digests: Collection[str], *, alive_seconds: float = ALIVE_SECONDS
) -> dict[str, Twin]:
    """By spec digest, the newest succeeded job of the owner, where it has all its pictures and they would be the same
    today: by a worker that gave a sign of life within ``alive_seconds``. Their rows stay as they are until the
    transaction ends; what somebody is removing at this moment is left out."""
    left, found = iter(digests), dict[str, Twin]()
    while some := list(islice(left, _SLICE)):
        found |= _find(connection, owner, some, timedelta(seconds=alive_seconds))
    return found


def insert_pictures(connection: Connection, twins: Mapping[UUID, Twin]) -> None:
    """Give each of these jobs the pictures of its twin."""
    rows = [{**picture, "job_id": job, "id": new_id()} for job, twin in twins.items() for picture in twin.pictures]
    if rows:
        connection.execute(insert(images), rows)


def _find(connection: Connection, owner: str, digests: list[str], silence: timedelta) -> dict[str, Twin]:
    wanted = func.unnest(bindparam("digests", digests, ARRAY(Text)))
    asked = wanted.table_valued("digest", name="asked").render_derived()
    paints_alike = jobs.c.recipe.contains(workers.c.recipes.op("->")(jobs.c.model))
    newest = (
        select(jobs.c.id)
        .where(jobs.c.owner == owner, jobs.c.spec_digest == asked.c.digest, _is_succeeded)
        .where(select(workers.c.id).where(paints_alike, alive(silence)).exists())
        .order_by(jobs.c.id.desc())
        .limit(1)
        .lateral()
    )
    statement = (
        select(jobs, images)
        .join(images)
        .where(jobs.c.id.in_(select(newest.c.id).select_from(asked.join(newest, true()))))
        .order_by(images.c.index)
        .with_for_update(read=True, of=images, skip_locked=True)
    )
    at: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    found: dict[UUID, list[Row[Any]]] = {}
    for row in connection.execute(statement):
        found.setdefault(row.job_id, []).append(row)
    return {rows[0].spec_digest: Twin.from_rows(rows, at) for rows in found.values() if _is_whole(rows)}


def _is_whole(rows: list[Row[Any]]) -> bool:
    """Whether the job has all that it is to keep: its batch may have kept the best only."""
    spec = rows[0].spec
    kept: int = sum(row.kept for row in rows)
    return bool(kept == (spec["keep_best"] or spec["num_images"]))
