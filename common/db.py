"""The database: a URL in, an engine, transactions and readings out. The only place that commits."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import psycopg
from psycopg.errors import ConnectionTimeout
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from common.errors import Unavailable

_PING_SECONDS = 1.0
_CONNECT_SECONDS = 1.5
_STATEMENT_SECONDS = 30.0
_LOCK_SECONDS = 10.0
_GRACE = 7 / 6  # times a statement's limit its answer is waited for: the server's own comes first, where there is one
_SLICE = 5000  # rows of one COPY: a second where all is slow


def make_engine(
    url: str,
    *,
    name: str,
    pool_size: int = 10,
    statement_seconds: float = _STATEMENT_SECONDS,
    lock_seconds: float = _LOCK_SECONDS,
) -> Engine:
    """An engine whose connections fail within seconds, never hang. ``name`` shows in pg_stat_activity.

    It opens twice ``pool_size`` connections at most. A statement ends after ``statement_seconds``, or when it has
    waited ``lock_seconds`` for a lock that somebody else holds.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=2,
        pool_use_lifo=True,  # few connections stay warm, the others are let go
        hide_parameters=True,  # errors are logged, prompts are not
        connect_args={
            "application_name": name,
            "tcp_user_timeout": 2000,
            # the last: a process that was stopped inside a transaction would keep its jobs locked, and no sweep
            # could take them back
            "options": f"-c statement_timeout={statement_seconds * 1000:.0f} -c lock_timeout={lock_seconds * 1000:.0f}"
            " -c timezone=UTC -c idle_in_transaction_session_timeout=10000",
        },
    )
    _connect_patiently(engine, statement_seconds * _GRACE)
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One unit of work: committed at the end of the block, rolled back by any exception.

    Raises Unavailable where the server cannot be reached or breaks off. Whether a commit that broke off
    took effect is then unknown: callers repeat, and guarded writes make the repetition harmless.
    """
    with _translated(), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Statements that each see the newest committed rows, without the round trips that begin and end a transaction.

    For SELECTs alone. Raises Unavailable as transaction() does.
    """
    with _translated(), engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def check_database(engine: Engine) -> None:
    """Raise Unavailable unless the database answers."""
    with reading(engine) as connection:
        connection.execute(text("SELECT 1"))


def copy_rows(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert the rows in the connection's transaction by COPY, several times as fast as INSERT.

    In slices, each a statement of its own: however many rows there are, none comes near the limit of a statement.
    """
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - a connection that is in use has one
    rows = iter(rows)
    while some := list(islice(rows, _SLICE)):
        with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in some:
                copy.write_row(row)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable("the database does not answer") from error
    except (DBAPIError, psycopg.Error) as error:  # psycopg's own where its cursor is used, as by COPY
        if isinstance(error, DBAPIError) and error.connection_invalidated:  # as where it idled in a transaction
            raise Unavailable("the database broke off") from error
        if not _is_the_servers_trouble(error.orig if isinstance(error, DBAPIError) else error):
            raise
        raise Unavailable("the database does not answer") from error


def _is_the_servers_trouble(error: BaseException | None) -> bool:
    """Whether the same may go well another time: connections, locks, limits, disks and shutdowns are OperationalError.

    InternalError are a server that lets nobody write (25006), as a standby does, one that ended a session which idled
    in a transaction (25P03), and one that fails in itself (XX).
    """
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return True
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state is not None and (state in ("25006", "25P03") or state.startswith("XX"))


class _Patient(psycopg.Connection[Any]):
    """A connection that gives up on a server that takes everything and answers nothing.

    ``tcp_user_timeout`` sees only what is not acknowledged, and libpq's ``connect_timeout`` is of two seconds at least.
    """

    patience = _STATEMENT_SECONDS * _GRACE

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Generator[Any, Any, Any]:
        return _within(_CONNECT_SECONDS, super()._connect_gen(conninfo))

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.OperationalError as error:
            if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()  # its answer may come after all, and must not be taken for that of the next statement
            raise ConnectionTimeout("no answer") from error


def _within(seconds: float, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The same steps, each of which waits for the server. Raises ConnectionTimeout where they take longer."""
    until = time.monotonic() + seconds
    wanted = next(steps)
    while True:
        ready = yield wanted
        if time.monotonic() > until:
            raise ConnectionTimeout("no answer")
        try:
            wanted = steps.send(ready)
        except StopIteration as end:
            return end.value


def _connect_patiently(engine: Engine, patience: float) -> None:
    """Try each pooled connection before it is used: a restarted server costs nobody an error, a silent one a second.

    As pool_pre_ping does, which after a silence would connect anew, and wait again.
    """

    @event.listens_for(engine, "do_connect")
    def connect(_: object, __: object, arguments: list[Any], named: dict[str, Any]) -> _Patient:
        return _Patient.connect(*arguments, **named)

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, _: ConnectionPoolEntry, __: object) -> None:
        connection.patience = _PING_SECONDS
        try:
            engine.dialect.do_ping(connection)
        except ConnectionTimeout:
            raise
        except psycopg.OperationalError as error:
            raise DisconnectionError from error  # the pool makes a new connection
        finally:
            connection.patience = patience
