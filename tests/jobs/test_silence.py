"""A database that takes everything and answers nothing: nobody waits for it longer than is promised."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, make_url, text

from common.db import make_engine, reading, transaction
from common.errors import Unavailable
from tests.processes import wait_for
from tests.proxy import Proxy, proxied


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    url = make_url(database_url)
    assert url.host
    assert url.port
    with proxied(url.host, url.port) as proxy:
        yield proxy


@pytest.fixture
def engine(database_url: str, proxy: Proxy) -> Iterator[Engine]:
    url = make_url(database_url).set(port=proxy.port).render_as_string(hide_password=False)
    engine = make_engine(url, name="kiln-test")
    yield engine
    engine.dispose()


def test_used_and_new_connections_are_given_up_within_two_seconds(engine: Engine, proxy: Proxy) -> None:
    ask(engine)
    proxy.become("swallow")
    for _ in range(2):  # the first is a connection that was used a moment ago, the second a new one
        began = time.monotonic()
        with pytest.raises(Unavailable):
            ask(engine)
        assert time.monotonic() - began < 2
    proxy.become("pass")
    assert ask(engine) == 1


def test_an_answer_that_comes_too_late_is_not_taken_for_another_statement_s(engine: Engine) -> None:
    with pytest.raises(Unavailable):
        ask_slowly(engine)
    assert ask(engine) == 1


def test_a_session_that_the_server_ended_in_mid_transaction_is_a_database_that_is_away(database_url: str) -> None:
    """As it ends one that was idle for long: of a process that was stopped, or had to wait for the broker."""
    direct = make_engine(database_url, name="kiln-test")
    with pytest.raises(Unavailable, match="broke off"):
        idle_for_too_long(direct)
    assert ask(direct) == 1
    direct.dispose()


def idle_for_too_long(engine: Engine) -> None:
    with transaction(engine) as connection:
        session = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 100"))
        wait_for("end of the session", lambda: session not in sessions(engine))


def sessions(engine: Engine) -> list[int]:
    with reading(engine) as connection:
        return list(connection.execute(text("SELECT pid FROM pg_stat_activity")).scalars())


def ask(engine: Engine) -> int:
    with reading(engine) as connection:
        answer: int = connection.execute(text("SELECT 1")).scalar_one()
        return answer


def ask_slowly(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.connection.driver_connection.patience = 0.2
        connection.execute(text("SELECT pg_sleep(0.5), 2"))
