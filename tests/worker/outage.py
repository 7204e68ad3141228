"""A database that is away for a while, without harm to the others on its server."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from common.local.services import Services


@contextmanager
def database_away(engine: Engine, services: Services) -> Iterator[None]:
    """The engine's database ends its connections and takes no new ones during the block."""
    name = engine.url.database
    assert name is not None
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            yield
        finally:
            admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))
