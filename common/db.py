"""The database: a URL in, an engine and transactions out. The only place that commits."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from common.errors import Unavailable


def make_engine(url: str, *, name: str, pool_size: int = 10) -> Engine:
    """An engine whose connections fail within seconds, never hang. ``name`` shows in pg_stat_activity."""
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=2,
        hide_parameters=True,  # errors are logged, prompts are not
        pool_pre_ping=True,  # a restarted server must cost nobody an error
        connect_args={
            "application_name": name,
            "connect_timeout": 2,
            "tcp_user_timeout": 2000,
            "options": "-c statement_timeout=30000 -c lock_timeout=10000 -c timezone=UTC",
        },
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One unit of work: committed at the end of the block, rolled back by any exception.

    Raises Unavailable where the server cannot be reached or breaks off. Whether a commit that broke off
    took effect is then unknown: callers repeat, and guarded writes make the repetition harmless.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise Unavailable("the database does not answer") from error


def check_database(engine: Engine) -> None:
    """Raise Unavailable unless the database answers."""
    with transaction(engine) as connection:
        connection.execute(text("SELECT 1"))
