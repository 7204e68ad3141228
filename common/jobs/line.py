"""The line of those who may start: at which turn a job comes into it, and who comes as time passes.

What is promised of its order stands in docs/order.md.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    column,
    false,
    func,
    literal,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from common.jobs.state import Lane
from common.jobs.tables import INSTANT, LATER, batches, is_queued, jobs

_PLACE = ("owner", "model", "lane", "priority", "suspect")  # whose turns are counted together
_LINING_UP = 4_201_851_714  # advisory lock, any number of our own


def may_start(rows: FromClause = jobs) -> ColumnElement[bool]:
    """In line, its time come, and not too late: in time, or begun in time.

    Jobs of a batch that was paused or canceled may not have been told yet: its row says so. Not by EXISTS, which the
    planner might turn into a join with all that waits.
    """
    clock = func.clock_timestamp()
    in_time = func.coalesce(rows.c.deadline > clock, True) | (rows.c.attempt > 0)
    goes_on = select(batches.c.paused_at.is_(None) & batches.c.canceled_at.is_(None))
    of_batch = goes_on.where(batches.c.id == rows.c.batch_id).scalar_subquery()
    return and_(rows.c.due, rows.c.not_before <= clock, in_time, func.coalesce(of_batch, True))


def next_turn(owner: object, model: object, lane: object, priority: object) -> ColumnElement[int]:
    """The place in line of a job that comes now: behind its owner's last one, and where those who wait are by now.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996) with every job of cost one: owners alternate, and ten jobs of
    one owner do not wait behind ten thousand of another. Two index look-ups, whatever waits.
    """
    return func.coalesce(_turn(owner, model, lane, priority, false()), 0)


def take_turns(connection: Connection, owner: str, lane: Lane, kinds: Sequence[tuple[str, int]]) -> list[int]:
    """The turns of an owner's jobs that come together, in their order; ``kinds``: the model and priority of each."""
    models, priorities = zip(*(different := sorted(set(kinds))), strict=True)
    arrays = (literal(list(models), ARRAY(Text)), literal(list(priorities), ARRAY(Integer)))
    kind = (
        func.unnest(*arrays)
        .table_valued(column("model", Text), column("priority", Integer), name="kind")
        .render_derived()
    )
    first = select(kind, next_turn(owner, kind.c.model, lane, kind.c.priority))
    turns = {(model, priority): count(turn) for model, priority, turn in connection.execute(first)}
    assert turns.keys() == set(different)  # noqa: S101 - a row for each
    return [next(turns[kind]) for kind in kinds]


def line_up(connection: Connection, limit: int, *, models: Sequence[str] | None = None) -> int:
    """Let jobs whose time has come into the line, up to ``limit`` of each model, the earliest first; returns how many.

    Each comes in at the turn of this moment; one that was begun keeps its own, and so its place ahead. Where there is
    none it is one look into an index, whatever waits: so a claim, which passes its ``models``, depends on no sweeper.

    One process at a time: two would give an owner's jobs the same turns. A claim that finds another at it does
    without, and may find nothing, and has to look again.
    """
    if models is None:
        connection.execute(select(func.pg_advisory_xact_lock(_LINING_UP)))
        models = connection.execute(_MODELS).scalars().all()
    elif not (
        connection.execute(_COME, {"models": models}).scalar_one()
        and connection.execute(select(func.pg_try_advisory_xact_lock(_LINING_UP))).scalar_one()
    ):
        return 0
    return connection.execute(_LINE_UP, {"models": models, "most": limit}).rowcount


def _turn(owner: object, model: object, lane: object, priority: object, suspect: object) -> ColumnElement[int]:
    """NULL where nobody waits there. Suspects have turns among themselves: few of them run at once.

    The line is, where it is claimed from next, at the first job that was never begun: what was begun and came back
    stands where it stood. Jobs of other models, and what is not in line, take no part in that service.
    """
    ahead = jobs.alias("ahead")
    mine = (ahead.c.status == literal_column("'queued'")) & (ahead.c.owner == owner)
    there = (
        (ahead.c.suspect == suspect)
        & (ahead.c.model == model)
        & (ahead.c.lane == lane)
        & (ahead.c.priority == priority)
    )
    last = select(ahead.c.turn + 1).where(mine, ahead.c.due, there).order_by(ahead.c.turn.desc()).limit(1)
    waits = may_start(ahead) & (ahead.c.suspect | (ahead.c.attempt == 0))
    now = select(ahead.c.turn).where(waits, there).order_by(ahead.c.turn, ahead.c.id).limit(1)
    return func.greatest(last.scalar_subquery(), now.scalar_subquery())


_models = func.unnest(bindparam("models", type_=ARRAY(Text)))
_each_model = _models.table_valued(column("name", Text), name="each_model").render_derived()
_later = is_queued & ~jobs.c.due


def _select_models() -> Select[str]:
    """The models of all jobs of later, in as many steps along the index as there are models."""
    least = func.min(jobs.c.model).label("model")
    each = select(least).where(_later).cte("each", recursive=True)
    after = select(least).where(_later, jobs.c.model > each.c.model).scalar_subquery()
    each = each.union_all(select(after).where(each.c.model.is_not(None)))
    return select(each.c.model).where(each.c.model.is_not(None))


def _select_come() -> Select[Any]:
    """Of each model those whose time has come, and who are not in line yet."""
    come = select(*(jobs.c[name] for name in ("id", "turn", "attempt", *_PLACE)))
    return come.where(_later, jobs.c.model == _each_model.c.name, jobs.c.not_before <= INSTANT).order_by(*LATER)


def _make_line_up() -> Update:
    """One statement, built once, for each claim may need it."""
    come = _select_come().limit(bindparam("most", type_=Integer)).with_for_update(skip_locked=True).lateral()
    anew = (come.c.suspect | (come.c.attempt == 0)).label("anew")
    found = select(come, anew).select_from(_each_model.join(come, true())).cte("found")
    kinds = select(*(found.c[name] for name in _PLACE)).where(found.c.anew).distinct().subquery()
    turn = _turn(*(kinds.c[name] for name in _PLACE)).label("turn")
    first = select(kinds, turn).cte("first")
    place = [found.c[name] for name in _PLACE]
    number = func.row_number().over(partition_by=[*place, found.c.anew], order_by=found.c.id) - 1
    alone = case((found.c.suspect, found.c.turn), else_=number)  # where nobody waits, a suspect keeps its turn, too
    new_turn = case((found.c.anew, func.coalesce(first.c.turn + number, alone)), else_=found.c.turn)
    placed = (
        select(found.c.id, new_turn.label("turn"))
        .select_from(found.outerjoin(first, and_(*(found.c[name] == first.c[name] for name in _PLACE))))
        .subquery("placed")
    )
    return update(jobs).where(jobs.c.id == placed.c.id).values(due=True, turn=placed.c.turn)


_MODELS = _select_models()
_COME = select(select(literal(1)).select_from(_each_model.join(_select_come().limit(1).lateral(), true())).exists())
_LINE_UP = _make_line_up()
