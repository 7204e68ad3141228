"""The event log as it grows: each event is read once and in order, however late its transaction commits."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from psycopg import Connection
from sqlalchemy import Engine

from common.db import make_engine
from common.jobs.log import Event, Tail, Watch, count_unfinished, read_events, read_on
from common.jobs.owner import cancel_job, delete_job
from common.jobs.submit import submit_job
from tests.jobs.make import submission, submit

CANCEL = "UPDATE jobs SET status = 'canceled', finished_at = clock_timestamp() WHERE id = %s"


class Reader:
    """Follows the log, and remembers what it read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.tail = Tail()
        self.events: list[Event] = []
        while self.tail.end is None:
            self.read()

    def read(self, times: int = 1) -> list[tuple[UUID, str]]:
        """All that was read until now, after so many more readings."""
        for _ in range(times):
            self.tail, more = read_on(self._engine, self.tail)
            self.events += more
        return [(event.job_id, event.status.value) for event in self.events]


@pytest.fixture
def slow(database_url: str) -> Iterator[Connection]:
    """A second connection, whose transactions take their time."""
    with psycopg.connect(database_url) as connection:
        yield connection


def test_what_is_committed_late_is_neither_passed_by_nor_read_twice(engine: Engine, slow: Connection) -> None:
    first, second, third = (submit(engine) for _ in range(3))
    reader = Reader(engine)
    cancel_job(engine, "ann", first)
    slow.execute(CANCEL, (second,))  # its event has an id now
    cancel_job(engine, "ann", third)  # a higher one, and committed before it

    assert reader.read(times=5) == [(first, "canceled")]
    slow.commit()
    assert reader.read(times=5) == [(first, "canceled"), (second, "canceled"), (third, "canceled")]
    assert [event.id for event in reader.events] == sorted(event.id for event in reader.events)


def test_what_is_rolled_back_is_not_waited_for(engine: Engine, slow: Connection) -> None:
    first, second = submit(engine), submit(engine)
    reader = Reader(engine)
    slow.execute(CANCEL, (first,))
    cancel_job(engine, "ann", second)
    assert reader.read(times=5) == []
    slow.rollback()
    assert reader.read(times=3) == [(second, "canceled")]


def test_a_reader_that_begins_while_somebody_writes_misses_nothing_of_it(engine: Engine, slow: Connection) -> None:
    first, second = submit(engine), submit(engine)
    slow.execute(CANCEL, (first,))
    cancel_job(engine, "ann", second)
    tail = Tail()
    for _ in range(5):
        tail, events = read_on(engine, tail)
        assert (tail.end, events) == (None, [])
    slow.commit()
    reader = Reader(engine)
    last = read_events(engine, Watch("ann"), 0, reader.tail.end)[-2:]
    assert {event.job_id for event in last} == {first, second}


def test_a_backup_and_a_long_report_hold_no_event_back(engine: Engine, slow: Connection) -> None:
    """Both read, as pg_dump does, and one of them writes something else."""
    reader = Reader(engine)
    slow.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    slow.execute("LOCK TABLE jobs, events IN ACCESS SHARE MODE")
    slow.execute("SELECT count(*) FROM events")
    slow.execute("CREATE TABLE report ()")
    assert slow.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() != (None,)
    job = submit(engine)
    with pytest.raises(ZeroDivisionError):
        submit_and_fall(engine)
    cancel_job(engine, "ann", job)
    assert reader.read(times=3) == [(job, "queued"), (job, "canceled")]


def submit_and_fall(engine: Engine) -> None:
    """Ids that are taken and never used."""
    with engine.connect() as connection:
        connection.exec_driver_sql("UPDATE jobs SET status = 'canceled', finished_at = clock_timestamp()")
        raise ZeroDivisionError


def test_a_deleted_job_leaves_a_gap_that_nobody_waits_for(engine: Engine) -> None:
    reader = Reader(engine)
    gone, there = submit(engine), submit(engine)
    cancel_job(engine, "ann", gone)
    delete_job(engine, "ann", gone)
    assert reader.read(times=3) == [(there, "queued")]


def test_every_event_of_many_writers_at_once_is_read_once_and_in_order(database_url: str, engine: Engine) -> None:
    def write() -> None:
        for _ in range(15):
            with busy.connect() as connection, connection.begin() as block:  # in one transaction, some of which fail
                job = submit(engine)
                connection.exec_driver_sql(CANCEL, (job,))
                if job.int % 3 == 0:
                    block.rollback()
                else:
                    made.append(job)

    made: list[UUID] = []
    with busy_engine(database_url) as busy:
        reader = Reader(engine)
        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            reader.read()
        for writer in writers:
            writer.join()
        deadline = time.monotonic() + 20
        while reader.tail.fence and time.monotonic() < deadline:
            reader.read()
        reader.read(times=3)
    ids = [event.id for event in reader.events]
    assert ids == sorted(set(ids))
    assert sum(event.status == "queued" for event in reader.events) == 60
    assert sorted(e.job_id for e in reader.events if e.status == "canceled") == sorted(made)


@contextmanager
def busy_engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, name="kiln-test")
    yield engine
    engine.dispose()


def test_each_reads_their_own_log(engine: Engine) -> None:
    hers, his = submit(engine, "ann"), submit_job(engine, submission("bob"), max_queued=100).job_id
    assert [event.job_id for event in read_events(engine, Watch("ann"), 0, None)] == [hers]
    assert read_events(engine, Watch("ann", job_id=his), 0, None) == []
    assert count_unfinished(engine, Watch("ann", job_id=hers)) == 1
    assert count_unfinished(engine, Watch("ann", job_id=his)) is None
    cancel_job(engine, "ann", hers)
    assert count_unfinished(engine, Watch("ann", job_id=hers)) == 0
