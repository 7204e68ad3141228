"""The claim: a worker's name in, the next job that is due and the token to write with out."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, Engine, Row, Update, and_, column, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY

from common.db import transaction
from common.jobs.line import line_up, may_start
from common.jobs.spec import JobSpec
from common.jobs.state import Lane, Status
from common.jobs.tables import jobs

_LINED_UP = 100  # by one claim at most: some milliseconds
_TAKEN = [jobs.c[name] for name in ("id", "attempt", "spec", "lane", "priority", "failures", "owner", "batch_id")]
_LINE_OF = (jobs.c.suspect, jobs.c.model, jobs.c.lane)  # in this order an index begins with them
_URGENCY = (jobs.c.priority.desc(), jobs.c.turn, jobs.c.id)  # within a line


@dataclass(frozen=True, slots=True)
class Claim:
    """A job this worker holds: which one, which attempt, and the token that every later write must show."""

    job_id: UUID
    attempt: int
    token: UUID
    spec: JobSpec
    lane: Lane
    priority: int
    failures: int  # of earlier attempts
    owner: str
    batch_id: UUID | None


def claim_job(
    engine: Engine,
    *,
    worker: str,
    models: Sequence[str],
    lanes: Sequence[Lane] = tuple(Lane),
    lease_seconds: float,
    job_seconds: float,
    oldest: bool = False,
    suspects: bool = True,
    avoid: Collection[str] = (),
) -> Claim | None:
    """Take the next job that is due, or None. Rivals step over each other's locked rows.

    The order is lane, priority, then that of ``models``, then turn. With ``oldest`` the job that was submitted first
    goes first instead: claimed so now and then, no job starves behind an endless stream of more urgent ones. Without
    ``suspects`` jobs that failed before are stepped over, and always those of the owners to ``avoid``.
    """
    token, clock = uuid4(), func.clock_timestamp()
    leased = {
        "status": Status.RUNNING,
        "attempt": jobs.c.attempt + 1,
        "lease_token": token,
        "lease_expires_at": clock + timedelta(seconds=lease_seconds),
        "run_deadline_at": clock + timedelta(seconds=job_seconds),
        "worker": worker,
        "started_at": clock,
        "stage": None,
        "progress_done": 0,
    }
    order = [jobs.c.id] if oldest else _URGENCY
    wanted = may_start() & jobs.c.owner.not_in(avoid)
    with transaction(engine) as connection:
        line_up(connection, _LINED_UP, models=models)
        heads = _find_heads(connection, models, lanes, [False, True] if suspects else [False], wanted, order)
        heads.sort(key=attrgetter("id") if oldest else partial(_urgency, models))
        alike = [_in_line(head) if oldest else _in_line(head) & (jobs.c.priority == head.priority) for head in heads]
        # Where somebody holds all that are like a head, the other heads go before what is behind it
        for stretch in itertools.chain(alike, map(_in_line, heads)):
            row = connection.execute(_take(stretch & wanted, order, leased)).one_or_none()
            if row:
                return _as_claim(row, token)
    return None


def _find_heads(
    connection: Connection,
    models: Sequence[str],
    lanes: Sequence[Lane],
    suspects: Sequence[bool],
    wanted: ColumnElement[bool],
    order: Sequence[ColumnElement[Any]],
) -> list[Row[Any]]:
    """The first of each line, whether somebody holds it or not: for each one look into an index, whatever waits.

    The suspects of a model in a lane are one line, and the others another.
    """
    each = [
        func.unnest(literal(list(wanted), ARRAY(kind.type))).table_valued(column(kind.name, kind.type)).render_derived()
        for kind, wanted in zip(_LINE_OF, (suspects, models, lanes), strict=True)
    ]
    here = [kind == one.c[kind.name] for kind, one in zip(_LINE_OF, each, strict=True)]
    first = select(jobs.c.id, *_LINE_OF, jobs.c.priority, jobs.c.turn).where(*here, wanted).order_by(*order).limit(1)
    suspect, model, lane = each
    lines = suspect.join(model, true()).join(lane, true())
    head = first.lateral()
    return list(connection.execute(select(head).select_from(lines.join(head, true()))))


def _in_line(head: Row[Any]) -> ColumnElement[bool]:
    return and_(*(kind == head._mapping[kind.name] for kind in _LINE_OF))


def _urgency(models: Sequence[str], head: Row[Any]) -> tuple[Any, ...]:
    return head.lane == Lane.BATCH, -head.priority, models.index(head.model), head.turn, head.id


def _take(which: ColumnElement[bool], order: Sequence[ColumnElement[Any]], leased: Mapping[str, Any]) -> Update:
    """Lease the first of ``which`` that nobody holds."""
    free = select(jobs.c.id).where(which).order_by(*order).limit(1).with_for_update(skip_locked=True).cte("free")
    return update(jobs).where(jobs.c.id == free.c.id, jobs.c.due).values(leased).returning(*_TAKEN)


def _as_claim(row: Row[Any], token: UUID) -> Claim:
    return Claim(
        job_id=row.id,
        attempt=row.attempt,
        token=token,
        spec=JobSpec.from_json(row.spec),
        lane=Lane(row.lane),
        priority=row.priority,
        failures=row.failures,
        owner=row.owner,
        batch_id=row.batch_id,
    )
