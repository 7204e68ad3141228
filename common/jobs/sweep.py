"""One round of the sweeper: dead leases taken back, deadlines enforced, unsent messages named. Two at once are safe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from sqlalchemy import Engine, any_, case, func, literal_column, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from common.db import reading, transaction
from common.errors import DeadlinePassed, WorkerLost
from common.jobs.charge import CLOCK, EXCUSABLE, as_column, charge
from common.jobs.deliveries import tell_completed
from common.jobs.line import line_up
from common.jobs.state import Status
from common.jobs.tables import INSTANT, is_queued, is_running, jobs, workers
from common.jobs.workers import forget_workers

_FORGET_WORKERS_AFTER = 24 * 3600
_REPUBLISH_AFTER = timedelta(seconds=30)
_LINED_UP = 20_000  # in one round: a second or two
_LOT = 2000  # jobs ended in one transaction

_SILENT = WorkerLost("the worker went silent or died with this job, and its attempts are used up")
_STUCK = DeadlinePassed("attempts took longer than one may, and did not end by themselves")

_SWEEPING = 4_201_851_713  # advisory lock, any number of our own
_SESSION = func.pg_backend_pid().label("session")


@contextmanager
def only_sweeper(engine: Engine) -> Iterator[Callable[[], bool]]:
    """Gives the question whether this is the one sweeper that may work: the server is asked each time.

    The lock is a session's: it goes with the block, with the process, or with the connection.
    """
    with reading(engine) as connection:
        row = connection.execute(select(func.pg_try_advisory_lock(_SWEEPING).label("got"), _SESSION)).one()

        def held() -> bool:
            return bool(row.got and connection.execute(select(_SESSION)).scalar_one() == row.session)

        try:
            yield held
        finally:
            if row.got and not connection.invalidated:
                connection.execute(select(func.pg_advisory_unlock(_SWEEPING)))


def round_parts(engine: Engine, *, lease_seconds: float, max_failures: int) -> dict[str, Callable[[], int]]:
    """What a round does, in its order: each part takes some seconds at most, and returns how many it was done to."""
    return {
        "returned": partial(return_expired, engine, lease_seconds=lease_seconds, max_failures=max_failures),
        "excused": partial(take_back_charges, engine),
        "expired": partial(expire_overdue, engine),
        "lined_up": partial(line_up_due, engine),
        "told": partial(tell_completed, engine),
        "forgotten": partial(forget_workers, engine, silent_seconds=_FORGET_WORKERS_AFTER),
    }


def return_expired(engine: Engine, *, lease_seconds: float, max_failures: int, limit: int = 500) -> int:
    """Take back jobs whose lease ran out, charging a failure each; returns how many. Beside a job that failed before
    none is charged but that one: it may be what killed the worker.

    Locks and re-checks in one statement, so a late heartbeat or finish wins or loses as a whole. Waits one lease
    after a restart of the server, when every lease looks expired though the workers are well.
    """
    dead = (
        select(jobs.c.id)
        .where(
            is_running,
            jobs.c.lease_expires_at <= CLOCK,
            func.pg_postmaster_start_time() < CLOCK - timedelta(seconds=lease_seconds),
        )
        .order_by(jobs.c.lease_expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("dead")
    )
    error = case((jobs.c.run_deadline_at <= CLOCK, as_column(_STUCK)), else_=as_column(_SILENT))
    excused = _beside_suspect() & EXCUSABLE
    values = charge(error, max_failures, excused=excused) | {
        "lost_by": case((excused, jobs.c.lost_by), else_=func.array_append(jobs.c.lost_by, jobs.c.worker)),
        "lost_at": case((excused, jobs.c.lost_at), else_=CLOCK),
    }
    statement = update(jobs).where(jobs.c.id == dead.c.id, is_running).values(values)
    with transaction(engine) as connection:
        return connection.execute(statement).rowcount


def take_back_charges(engine: Engine, limit: int = 500) -> int:
    """Excuse the jobs whose worker is heard of again that was silent for a lease: it was cut off, and is no worse for
    the job; returns how many. What is over stays as it is, and so does who was excused as often as one may be.

    By the worker's own entry, which no other process writes: who lost a lease writes nothing of the job.
    """
    heard = (
        select(jobs.c.id, workers.c.id.label("worker"))
        .join(workers, workers.c.id == any_(jobs.c.lost_by))
        .where(
            jobs.c.lost_at > INSTANT - timedelta(seconds=_FORGET_WORKERS_AFTER),
            jobs.c.lost_at < workers.c.seen_at,
            jobs.c.finished_at.is_(None),
            EXCUSABLE,
        )
        .order_by(jobs.c.id)
        .limit(limit)
        .with_for_update(of=jobs, skip_locked=True)
        .cte("heard")
    )
    others = func.array_remove(jobs.c.lost_by, heard.c.worker)
    times = func.cardinality(jobs.c.lost_by) - func.cardinality(others)
    statement = (
        update(jobs)
        .where(jobs.c.id == heard.c.id, jobs.c.finished_at.is_(None))
        .values(
            failures=func.greatest(0, jobs.c.failures - times),
            excused=jobs.c.excused + times,
            lost_by=others,
            lost_at=case((func.cardinality(others) > 0, jobs.c.lost_at)),
        )
    )
    with transaction(engine) as connection:
        return connection.execute(statement).rowcount


def _beside_suspect() -> ColumnElement[bool]:
    """Whether the job never failed, and its worker had one in hand that did: has it still, or lost it since then."""
    suspect = jobs.alias("suspect")
    running = suspect.c.status == literal_column("'running'")
    has = select(suspect.c.id).where(running, suspect.c.worker == jobs.c.worker, suspect.c.failures > 0)
    lost = select(suspect.c.id).where(
        suspect.c.lost_at > jobs.c.started_at, jobs.c.worker == any_(suspect.c.lost_by), suspect.c.failures > 1
    )
    return (jobs.c.failures == 0) & or_(has.exists(), lost.exists())


def expire_overdue(engine: Engine, limit: int = _LINED_UP) -> int:
    """End up to ``limit`` jobs that had not begun when their deadline passed; returns how many.

    What was begun, and is back in the queue, goes on. A few thousand in one transaction: their receivers' messages are
    written with them.
    """
    late = (
        select(jobs.c.id)
        .where(is_queued, jobs.c.deadline <= INSTANT, jobs.c.attempt == 0)
        .order_by(jobs.c.deadline)
        .limit(_LOT)
        .with_for_update(skip_locked=True, key_share=True)
        .cte("late")
    )
    ended = {"status": Status.EXPIRED, "finished_at": func.clock_timestamp()}
    total, lot = 0, _LOT
    while total < limit and lot == _LOT:
        with transaction(engine) as connection:
            lot = connection.execute(update(jobs).where(jobs.c.id == late.c.id).values(ended)).rowcount
        total += lot
    return total


def line_up_due(engine: Engine, limit: int = _LINED_UP) -> int:
    """Let jobs whose time has come into the line that the claim walks; returns how many.

    Claims do it too, a few at a time. When a window opens for a hundred thousand jobs, whoever comes while they do
    would wait behind them, however urgent.
    """
    with transaction(engine) as connection:
        return line_up(connection, limit)


def take_unpublished(engine: Engine, model: str, limit: int) -> int:
    """Mark up to ``limit`` jobs that stand in line and whose message was never sent or may be lost; returns how many.

    The caller sends as many messages. If it dies in between, the jobs are taken again half a minute later.
    """
    clock = func.clock_timestamp()
    unsent = (
        select(jobs.c.id)
        .where(
            jobs.c.due,
            jobs.c.model == model,
            func.coalesce(jobs.c.published_at < clock - _REPUBLISH_AFTER, True),
        )
        .order_by(jobs.c.not_before)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("unsent")
    )
    with transaction(engine) as connection:
        return connection.execute(update(jobs).where(jobs.c.id == unsent.c.id).values(published_at=clock)).rowcount
