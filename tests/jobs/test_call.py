"""Calls that wait for their answer: which job a client gets that asks for the same again."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, func, select, text, update

from common.db import reading, transaction
from common.jobs.call import Call, leave_call, open_call
from common.jobs.owner import cancel_job, delete_job
from common.jobs.tables import calls, jobs
from tests.jobs.make import submission
from tests.processes import wait_for


def opened(engine: Engine, digest: str = "a cat", *, again: bool = False, owner: str = "ann") -> Call:
    limits: dict[str, Any] = {"max_queued": 100, "max_queued_per_owner": 100}
    return open_call(engine, submission(owner), digest, again=again, hold_seconds=600, **limits)


def count(engine: Engine) -> int:
    with reading(engine) as connection:
        return connection.execute(select(func.count()).select_from(jobs)).scalar_one()


def test_the_next_try_joins_the_call_that_was_left_and_no_other_words_or_owner_do(engine: Engine) -> None:
    first = opened(engine)
    leave_call(engine, first, answered=False)
    others = [opened(engine, "a dog", again=True), opened(engine, again=True, owner="bob"), opened(engine)]
    joined = opened(engine, again=True)
    assert joined.receipt.replayed
    assert joined.receipt.job_id == first.receipt.job_id
    assert not any(other.receipt.replayed for other in others)


def test_a_call_that_was_answered_is_joined_no_more(engine: Engine) -> None:
    first = opened(engine)
    leave_call(engine, first, answered=True)
    assert opened(engine, again=True).receipt.job_id != first.receipt.job_id


def test_calls_whose_clients_seem_to_be_there_are_joined_last_and_each_in_its_turn(engine: Engine) -> None:
    """A proxy that does not tell that its clients have gone."""
    held = [opened(engine) for _ in range(2)]
    free = opened(engine)
    leave_call(engine, free, answered=False)
    joined = [opened(engine, again=True).receipt.job_id for _ in range(3)]
    assert joined == [call.receipt.job_id for call in (free, *held)]
    assert count(engine) == 3


def test_a_request_that_ends_late_does_not_free_a_call_that_was_joined_since(engine: Engine) -> None:
    first = opened(engine)
    joined = opened(engine, again=True)
    leave_call(engine, first, answered=False)
    with reading(engine) as connection:
        assert connection.execute(select(calls.c.held_until)).scalar_one() == joined.held_until


def test_a_try_that_comes_while_the_one_before_is_inserted_waits_and_joins_it(engine: Engine) -> None:
    with ThreadPoolExecutor(2) as pool:
        with transaction(engine) as connection:
            connection.execute(text("LOCK TABLE jobs IN SHARE MODE"))  # no job is inserted meanwhile
            first = pool.submit(opened, engine)
            blocked(engine, "relation")
            second = pool.submit(opened, engine, again=True)
            blocked(engine, "advisory")
        assert second.result().receipt.job_id == first.result().receipt.job_id
    assert count(engine) == 1


def test_an_hour_after_its_client_left_a_call_is_forgotten_and_its_job_stays(engine: Engine) -> None:
    first = opened(engine)
    with transaction(engine) as connection:
        connection.execute(update(calls).values(held_until=func.clock_timestamp() - timedelta(minutes=61)))
    assert opened(engine, again=True).receipt.job_id != first.receipt.job_id
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(calls)).scalar_one() == 1
    assert count(engine) == 2


def test_a_job_that_is_deleted_takes_its_call_along(engine: Engine) -> None:
    first = opened(engine)
    cancel_job(engine, "ann", first.receipt.job_id)
    delete_job(engine, "ann", first.receipt.job_id)
    leave_call(engine, first, answered=False)
    assert not opened(engine, again=True).receipt.replayed


def blocked(engine: Engine, kind: str) -> None:
    """Wait until a session waits for a lock of this kind."""
    wait_for(f"{kind} lock that is waited for", lambda: _waits(engine, kind))


def _waits(engine: Engine, kind: str) -> bool:
    with reading(engine) as connection:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = :kind")
        return connection.execute(waiting, {"kind": kind}).scalar_one() > 0
