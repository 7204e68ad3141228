"""What is asked of the jobs in hand: one question for all that look at once, and never an answer of before."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event
from structlog.testing import capture_logs

from common.db import make_engine
from common.errors import LeaseLost, Unavailable
from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.owner import cancel_job
from common.local.services import Services
from tests.jobs.make import claimed, submit
from tests.processes import wait_for
from tests.proxy import proxied
from tests.worker.outage import database_away
from worker import wishes as wishes_module
from worker.wishes import Wishes


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the threads of a test do not look within milliseconds of each other."""
    monkeypatch.setattr(wishes_module, "FRESH_SECONDS", 60)


@pytest.fixture
def in_hand(engine: Engine) -> dict[Any, Claim]:
    for _ in range(8):
        submit(engine)
    return {taken.token: taken for taken in (claimed(engine) for _ in range(8))}


@contextmanager
def questions(engine: Engine) -> Iterator[list[str]]:
    asked: list[str] = []

    def note(_: object, __: object, statement: str, *___: Any) -> None:
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)


def test_all_that_look_after_a_tick_share_one_question(engine: Engine, in_hand: dict[Any, Claim]) -> None:
    wishes = Wishes(engine, in_hand)
    for tick in range(1, 4):
        with questions(engine) as asked, ThreadPoolExecutor(8) as threads:
            assert list(threads.map(wishes.heed, in_hand.values())) == [False] * 8
        assert len(asked) == 1, f"tick {tick}"


def test_who_looks_again_asks_again(engine: Engine, in_hand: dict[Any, Claim]) -> None:
    wishes, (first, second, *_) = Wishes(engine, in_hand), in_hand.values()
    assert not wishes.heed(first)
    cancel_job(engine, "ann", first.job_id)
    cancel_job(engine, "ann", second.job_id)
    assert (wishes.heed(first), wishes.heed(second)) == (True, True)


def test_an_answer_that_is_old_serves_nobody(
    engine: Engine, in_hand: dict[Any, Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wishes_module, "FRESH_SECONDS", 0)
    wishes, (first, second, *_) = Wishes(engine, in_hand), in_hand.values()
    wishes.heed(first)
    cancel_job(engine, "ann", second.job_id)
    assert wishes.heed(second)


def test_a_job_that_was_claimed_after_the_question_asks_for_itself(engine: Engine, in_hand: dict[Any, Claim]) -> None:
    wishes = Wishes(engine, in_hand)
    wishes.heed(next(iter(in_hand.values())))
    submit(engine)
    late = claimed(engine)
    in_hand[late.token] = late
    assert not wishes.heed(late)


def test_only_who_lost_the_lease_is_told_so(engine: Engine, in_hand: dict[Any, Claim]) -> None:
    wishes, (first, second, *_) = Wishes(engine, in_hand), in_hand.values()
    lease.park(engine, second)
    assert not wishes.heed(first)
    with pytest.raises(LeaseLost):
        wishes.heed(second)


def test_while_the_database_is_away_they_wait_for_it_once(
    dead_engine: Engine, in_hand: dict[Any, Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other they would be waiting while their worker is told to stop."""
    asked, read = list[object](), lease.read_wishes
    monkeypatch.setattr(lease, "read_wishes", lambda *given: (asked.append(given), read(*given))[1])
    wishes = Wishes(dead_engine, in_hand)
    for each in in_hand.values():
        with pytest.raises(Unavailable):
            wishes.heed(each)
    assert len(asked) == 1


def test_an_outage_is_found_out_once_costs_nobody_else_time_and_is_told_twice(
    engine: Engine, in_hand: dict[Any, Claim], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of sixteen jobs waited a second and a half at each of its steps, and said so each time."""
    monkeypatch.setattr(wishes_module, "RETRY_SECONDS", 0.1)
    wishes, (first, *_) = Wishes(engine, in_hand), in_hand.values()
    missed = 0
    with capture_logs() as logs:
        with database_away(engine, services):
            until = time.monotonic() + 1
            while time.monotonic() < until:
                with pytest.raises(Unavailable):
                    wishes.heed(first)
                missed += 1
                time.sleep(0.01)
        wait_for("answer", lambda: answers(wishes, first), seconds=10)

    assert [line["event"] for line in logs] == [
        "progress not saved: the database does not answer",
        "progress is saved again: the database answers",
    ]
    assert logs[1]["missed"] >= missed - 1
    assert logs[1]["seconds"] >= 0.9


def answers(wishes: Wishes, claim: Claim) -> bool:
    try:
        return not wishes.heed(claim)
    except Unavailable:
        return False


def test_who_looks_while_the_database_is_silent_does_not_wait_for_it(in_hand: dict[Any, Claim], engine: Engine) -> None:
    """It takes everything and answers nothing: who asks it waits for over a second, each time."""
    port = engine.url.port or 5432
    with proxied("127.0.0.1", port) as proxy:
        away = make_engine(engine.url.set(port=proxy.port).render_as_string(hide_password=False), name="kiln-worker")
        wishes, (first, *_) = Wishes(away, in_hand), in_hand.values()
        assert not wishes.heed(first)
        proxy.become("swallow")
        with pytest.raises(Unavailable):
            wishes.heed(first)
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(Unavailable):
                wishes.heed(first)
        assert time.monotonic() - began < 1
        away.dispose()
