"""Batches steered as one, however large: nobody's lease stands still meanwhile, and what was begun is finished."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from common.db import make_engine, reading, transaction
from common.errors import NotNow
from common.jobs import lease, steer
from common.jobs.batch import NewBatch, submit_batch
from common.jobs.claim import Claim
from common.jobs.due import PAUSED
from common.jobs.read import list_jobs
from common.jobs.state import Lane
from common.jobs.steer import cancel_batch, pause_batch, resume_batch, steer_on
from common.jobs.sweep import line_up_due
from tests.jobs.make import cancel_requested, claim, claimed, submission
from tests.processes import slowness, wait_for

OWNERS = ("ann", "bob", "eve")
LEASE = 60


def make_batch(engine: Engine, owner: str, count: int) -> UUID:
    jobs = [submission(owner, lane=Lane.BATCH, seed=seed) for seed in range(count)]
    return submit_batch(
        engine, NewBatch(owner, "night", "f"), jobs, max_queued=10**6, max_queued_per_owner=10**6
    ).batch_id


def let_windows_close(engine: Engine) -> None:
    """What the clocks do meanwhile: every batch has a window that closed this moment and opens in two hours."""
    opens = datetime.now(UTC) + timedelta(hours=2)
    window = {"start": f"{opens:%H:%M}", "end": f"{opens + timedelta(hours=1):%H:%M}", "tz": "UTC"}
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    with transaction(engine) as connection:
        connection.execute(
            text('UPDATE batches SET "window" = :window, closes_at = clock_timestamp()'),
            {"window": json.dumps(window | {"days": days})},
        )


def states(engine: Engine, condition: str) -> int:
    with reading(engine) as connection:
        found: int = connection.execute(text(f"SELECT count(*) FROM jobs WHERE {condition}")).scalar_one()  # noqa: S608
    return found


class Beats:
    """A worker's heartbeat in a thread of its own, ten times a second; how long a lease stood still at most."""

    def __init__(self, engine: Engine, claims: list[Claim]) -> None:
        self.longest = 0.0
        self.failures: list[str] = []
        self._engine, self._tokens = engine, [each.token for each in claims]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        extended = dict.fromkeys(self._tokens, time.monotonic())
        expiries: dict[UUID, datetime] = {}
        while not self._stopped.wait(0.1):
            try:
                standing = lease.extend_leases(self._engine, self._tokens, LEASE)
                expires = self._expiries()
            except Exception as error:
                self.failures.append(repr(error))
                continue
            if lost := set(self._tokens) - standing.keys():
                self.failures.append(f"lost {lost}")
            for token, expiry in expires.items():
                if expiry != expiries.get(token):
                    extended[token] = time.monotonic()
            expiries = expires
            self.longest = max(self.longest, time.monotonic() - min(extended.values()))

    def _expiries(self) -> dict[UUID, datetime]:
        with reading(self._engine) as connection:
            rows = connection.execute(text("SELECT lease_token, lease_expires_at FROM jobs WHERE status = 'running'"))
            return {row.lease_token: row.lease_expires_at for row in rows if row.lease_token in self._tokens}


@contextmanager
def beating(database_url: str, crews: list[list[Claim]]) -> Iterator[list[Beats]]:
    engine = make_engine(database_url, name="kiln-worker")
    beats = [Beats(engine, crew) for crew in crews]
    try:
        yield beats
    finally:
        for each in beats:
            each.stop()
        engine.dispose()


def close_all(engine: Engine, _: list[tuple[str, UUID]]) -> None:
    let_windows_close(engine)
    rival = threading.Thread(target=steer_on, args=(engine,))  # of a sweeper that believes itself alone
    rival.start()
    wait_for("end of all windows", lambda: steer_on(engine) + 1 and not to_do(engine))
    rival.join()


def pause_and_cancel(engine: Engine, batches: list[tuple[str, UUID]]) -> None:
    let_windows_close(engine)
    sweeper = threading.Thread(target=steer_on, args=(engine,))
    sweeper.start()
    for owner, batch in batches:
        pause_batch(engine, owner, batch)
        resume_batch(engine, owner, batch)
        cancel_batch(engine, owner, batch)
    sweeper.join()
    wait_for("end of all steering", lambda: steer_on(engine) + 1 and not to_do(engine))


def to_do(engine: Engine) -> int:
    with reading(engine) as connection:
        found = connection.execute(text("SELECT count(*) FROM batches WHERE steering OR closes_at < clock_timestamp()"))
        return int(found.scalar_one())


@pytest.mark.parametrize("harm", [close_all, pause_and_cancel])
def test_heartbeats_go_on_while_thousands_of_jobs_are_steered(
    engine: Engine, database_url: str, harm: Callable[[Engine, list[tuple[str, UUID]]], None]
) -> None:
    batches = [(owner, make_batch(engine, owner, 2500)) for owner in OWNERS]
    crews = [[claimed(engine, f"w{worker}") for _ in range(6)] for worker in range(3)]
    with beating(database_url, crews) as beats:
        harm(engine, batches)
    assert [each.failures for each in beats] == [[], [], []]
    assert max(each.longest for each in beats) < 1 * slowness()
    assert states(engine, "failures > 0") == 0
    if harm is close_all:
        assert states(engine, "not_before > clock_timestamp() + interval '1 h'") == 7500
    else:
        assert states(engine, "cancel_requested_at IS NOT NULL") == 7500


@pytest.mark.parametrize("asked", ["paused_at", "canceled_at"])
def test_what_is_asked_holds_before_the_jobs_are_told_and_the_sweeper_tells_them(engine: Engine, asked: str) -> None:
    """The API died as soon as it had written what was asked into the batch's row."""
    make_batch(engine, "ann", 5)
    running = claimed(engine)
    with transaction(engine) as connection:
        connection.execute(text(f"UPDATE batches SET {asked} = clock_timestamp(), steering = true"))  # noqa: S608
    assert claim(engine) is None
    assert claim(engine, oldest=True) is None
    assert steer_on(engine) == 1
    if asked == "paused_at":
        with pytest.raises(NotNow):
            cancel_requested(engine, running)
        assert {job.not_before for job in list_jobs(engine, "ann", limit=9)[0]} == {PAUSED}
    else:
        assert cancel_requested(engine, running)
        assert states(engine, "status = 'canceled'") == 4
    assert steer_on(engine) == 0


def test_what_there_is_no_time_for_in_the_answer_is_done_by_the_sweeper(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(engine, "ann", 50)
    running = claimed(engine)
    monkeypatch.setattr(steer, "_LOT", 10)
    monkeypatch.setattr(steer, "_ANSWER_SECONDS", 0)
    pause_batch(engine, "ann", batch)
    with pytest.raises(NotNow):  # what runs is told first
        cancel_requested(engine, running)
    assert (states(engine, "due"), claim(engine)) == (39, None)
    assert (steer_on(engine), states(engine, "due")) == (1, 0)
    assert resume_batch(engine, "ann", batch) == ["demo"] * 10
    assert steer_on(engine) == 1
    assert (line_up_due(engine), cancel_requested(engine, running)) == (49, False)
    cancel_batch(engine, "ann", batch)
    assert (steer_on(engine), states(engine, "status = 'canceled'")) == (1, 49)


def test_a_job_that_somebody_is_writing_is_told_later(engine: Engine) -> None:
    batch = make_batch(engine, "ann", 3)
    with engine.connect() as stopped:  # a worker that was stopped in mid-transaction
        stopped.execute(text("SELECT FROM jobs ORDER BY id LIMIT 1 FOR UPDATE"))
        began = time.monotonic()
        cancel_batch(engine, "ann", batch)
        assert time.monotonic() - began < 2 * slowness()
        assert (states(engine, "status = 'canceled'"), steer_on(engine)) == (2, 0)
    assert (steer_on(engine), states(engine, "status = 'canceled'")) == (1, 3)


def test_a_lease_that_somebody_is_writing_is_neither_waited_for_nor_lost(engine: Engine) -> None:
    make_batch(engine, "ann", 3)
    held, free, gone = (claimed(engine) for _ in range(3))
    lease.park(engine, gone)
    tokens = [each.token for each in (held, free, gone)]
    with engine.connect() as writing:
        writing.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": held.job_id})
        began = time.monotonic()
        assert lease.extend_leases(engine, tokens, 3 * LEASE) == {held.token: False, free.token: False}
        assert time.monotonic() - began < 2 * slowness()
        assert states(engine, "lease_expires_at > clock_timestamp() + interval '2 min'") == 1
    assert lease.extend_leases(engine, tokens, 3 * LEASE).keys() == {held.token, free.token}
    assert states(engine, "lease_expires_at > clock_timestamp() + interval '2 min'") == 2
