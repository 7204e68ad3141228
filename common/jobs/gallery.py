"""An owner and a filter in; a page of kept pictures, each with what was asked for, out. Reads only."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from common.db import reading
from common.jobs.read import Image, as_image
from common.jobs.tables import images, jobs


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One picture, and what its job asked for."""

    image: Image
    prompt: str
    style: str
    batch_id: UUID | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which pictures are wanted: all of them, but for what is said here."""

    text: str | None = None  # each of its words stands in the prompt, in any case
    style: str | None = None
    batch_id: UUID | None = None
    min_clip_score: float | None = None


def list_images(
    engine: Engine, owner: str, wanted: Filter, *, best_first: bool, after: UUID | None, limit: int
) -> tuple[list[Exhibit], bool]:
    """The owner's kept pictures that are ``wanted``, newest or best first; and whether there are more."""
    which = (jobs.c.owner == owner) & _matches(wanted)
    order: list[ColumnElement[Any]] = [images.c.id.desc()]
    if best_first:
        order.insert(0, images.c.clip_score.desc())
    if after is not None:
        which &= _beyond(after, best_first, owner)
    asked = (_prompt.label("prompt"), _style.label("style"), jobs.c.batch_id)
    statement = select(images, *asked).join(jobs).where(which).order_by(*order).limit(limit + 1)
    with reading(engine) as connection:
        rows = connection.execute(statement).all()
    found = [Exhibit(as_image(row), row.prompt, row.style, row.batch_id) for row in rows[:limit]]
    return found, len(rows) > limit


_prompt = jobs.c.spec["prompt"].astext
_style = jobs.c.spec["style"].astext


def _matches(wanted: Filter) -> ColumnElement[bool]:
    found: ColumnElement[bool] = images.c.kept
    for word in (wanted.text or "").split():
        found &= _prompt.icontains(word, autoescape=True)
    if wanted.style is not None:
        found &= _style == wanted.style
    if wanted.batch_id is not None:
        found &= jobs.c.batch_id == wanted.batch_id
    if wanted.min_clip_score is not None:
        found &= images.c.clip_score >= wanted.min_clip_score
    return found


def _beyond(after: UUID, best_first: bool, owner: str) -> ColumnElement[bool]:
    """Past the picture ``after`` in the list's order; past everything, where its score is not the owner's to know."""
    if not best_first:
        return images.c.id < after
    own = (images.c.id == after) & (jobs.c.owner == owner)
    score = select(images.c.clip_score).join_from(images, jobs).where(own).correlate(None).scalar_subquery()
    return tuple_(images.c.clip_score, images.c.id) < tuple_(score, after)
