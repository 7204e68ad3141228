"""The database: a URL in, an engine, transactions and readings out. The only place that commits."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from common.errors import Unavailable

_PING_AFTER_SECONDS = 1.0


def make_engine(url: str, *, name: str, pool_size: int = 10) -> Engine:
    """An engine whose connections fail within seconds, never hang. ``name`` shows in pg_stat_activity."""
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=2,
        pool_use_lifo=True,  # few connections stay warm, the others are let go
        hide_parameters=True,  # errors are logged, prompts are not
        connect_args={
            "application_name": name,
            "connect_timeout": 2,
            "tcp_user_timeout": 2000,
            # the last: a process that was stopped inside a transaction would keep its jobs locked, and no sweep
            # could take them back
            "options": "-c statement_timeout=30000 -c lock_timeout=10000 -c timezone=UTC"
            " -c idle_in_transaction_session_timeout=10000",
        },
    )
    _ping_idle_connections(engine)
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


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise Unavailable("the database does not answer") from error


def _ping_idle_connections(engine: Engine) -> None:
    """Try a pooled connection that was idle before it is used: a restarted server then costs nobody an error.

    As pool_pre_ping does, but only after a second: it costs a round trip, and a busy pool needs none.
    """

    @event.listens_for(engine, "checkin")
    def note(_: object, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ping(connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
        if time.monotonic() - record.info.get("idle_since", math.inf) > _PING_AFTER_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.OperationalError as error:
                raise DisconnectionError from error  # the pool makes a new connection
