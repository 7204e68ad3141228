"""COPY, by which batches come: all or none, in short statements, and what goes wrong inside is told like the rest."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from common.db import copy_rows, make_engine, reading, transaction
from common.errors import Unavailable
from common.jobs.batch import NewBatch, submit_batch
from tests.jobs.make import submission
from tests.processes import wait_for

MANY = 12_001  # more than two slices
PASSING = [
    "08006", "40001", "40P01", "53100", "53200", "53300", "55P03", "57014", "57P01", "57P03", "58030", "25006", "XX000",
]  # fmt: skip
NOT_PASSING = ["22001", "23514", "42501", "P0001"]


def submit_many(engine: Engine, count: int) -> None:
    submissions = [submission(seed=seed) for seed in range(count)]
    submit_batch(engine, NewBatch("ann", "night", "f"), submissions, max_queued=10**6, max_queued_per_owner=10**6)


def count(engine: Engine, table: str) -> int:
    with reading(engine) as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608


def test_a_batch_of_several_slices_is_whole_and_in_order(engine: Engine) -> None:
    submit_many(engine, MANY)
    with reading(engine) as connection:
        seeds = connection.execute(text("SELECT (spec->>'seed')::int FROM jobs ORDER BY turn, id")).scalars().all()
    assert seeds == list(range(MANY))


@pytest.mark.parametrize("how", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_copy_that_the_server_ends_leaves_nothing_and_is_a_database_that_is_away(
    engine: Engine, database_url: str, how: str
) -> None:
    admin = make_engine(database_url, name="kiln-admin", pool_size=1)
    strike = text(
        f"SELECT {how}(pid) FROM pg_stat_activity"  # noqa: S608
        " WHERE datname = current_database() AND query LIKE 'COPY jobs%' AND state = 'active'"
    )

    def struck() -> bool:
        with reading(admin) as connection:
            return bool(connection.execute(strike).all())

    with ThreadPoolExecutor(1) as thread:
        submitted = thread.submit(submit_many, engine, MANY)
        wait_for("COPY", struck)
        with pytest.raises(Unavailable):
            submitted.result()
    admin.dispose()
    assert (count(engine, "batches"), count(engine, "jobs"), count(engine, "events")) == (0, 0, 0)
    submit_many(engine, 2)
    assert count(engine, "jobs") == 2


def raise_in_copy(connection: Connection, code: str) -> None:
    """A trigger that raises as the server does, when the row comes."""
    connection.execute(text("CREATE TEMP TABLE numbers (number int)"))
    raising = f"BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END"
    connection.execute(text(f"CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS $$ {raising} $$"))
    before = "BEFORE INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION pg_temp.fail()"
    connection.execute(text(f"CREATE TRIGGER fail {before}"))
    copy_rows(connection, "numbers", ["number"], [(1,)])


def raise_in_statement(connection: Connection, code: str) -> None:
    connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"))


def copy_endlessly(connection: Connection, _: str) -> None:
    connection.execute(text("CREATE TEMP TABLE numbers (number int)"))
    connection.execute(text("SET LOCAL statement_timeout = '5ms'"))
    copy_rows(connection, "numbers", ["number"], repeat((1,)))


def go_wrong(engine: Engine, how: Callable[[Connection, str], None], code: str) -> None:
    with transaction(engine) as connection:
        how(connection, code)


@pytest.mark.parametrize("how", [raise_in_copy, raise_in_statement])
def test_what_is_the_servers_trouble_is_a_database_that_is_away_and_nothing_else_is(
    engine: Engine, how: Callable[[Connection, str], None]
) -> None:
    for code in PASSING:
        with pytest.raises(Unavailable):
            go_wrong(engine, how, code)
    for code in NOT_PASSING:
        with pytest.raises((DBAPIError, psycopg.Error)):
            go_wrong(engine, how, code)


def test_a_copy_that_takes_too_long_is_a_database_that_is_away(engine: Engine) -> None:
    with pytest.raises(Unavailable):
        go_wrong(engine, copy_endlessly, "")
