"""How alembic runs our migrations: all in one transaction, under limits that keep a busy system alive."""

from alembic import context
from sqlalchemy import create_engine, text

from common.jobs.outbox import deliveries

_MIGRATING = 4_201_851_712  # any number of our own: serialises migrations that start at once


def run() -> None:
    engine = create_engine(context.config.attributes["database_url"], connect_args={"connect_timeout": 5})
    with engine.begin() as connection:
        # Waiting for a lock blocks everybody who comes after: rather fail, and be run again
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.execute(text("SET statement_timeout = '10min'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
        context.configure(connection=connection, target_metadata=deliveries.metadata)  # outbox.py knows all tables
        context.run_migrations()
    engine.dispose()


run()
