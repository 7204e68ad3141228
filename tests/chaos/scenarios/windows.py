"""C17: windows of large batches that close together, beside heartbeats. A rig and a number of jobs in; none left."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from common.db import make_engine, reading, transaction
from tests.chaos.rig import SMALL, Rig
from tests.processes import slowness, wait_for

BATCHES, WORKERS, SEATS = 3, 2, 4
STEPS, CALL_MS = 200, 20  # jobs of some seconds, so that workers have some in hand
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TROUBLE = ("deadlock detected", "leases not extended", "lease lost", "not swept")

LEFT = """
SELECT count(*) FROM jobs WHERE batch_id IS NOT NULL
AND (status = 'running' OR status = 'queued' AND not_before < clock_timestamp() + interval '1 h')
"""
LEASES = "SELECT lease_token, lease_expires_at FROM jobs WHERE status = 'running'"
CLOSE = 'UPDATE batches SET "window" = :window, closes_at = clock_timestamp()'


def closings(rig: Rig, rounds: int) -> None:
    """C17: three batches of ``rounds`` jobs in all have their windows closed at once; then they are canceled, deleted.

    No lease stands still for longer than a beat and a second, none is lost, no failure is charged, nothing deadlocks,
    and each cancel is answered within 2 s.
    """
    places = [_submit(rig, rounds // BATCHES) for _ in range(BATCHES)]
    with rig.painters([""] * WORKERS, seats=SEATS, call_ms=CALL_MS):
        wait_for("full seats", lambda: rig.count("running") >= WORKERS, seconds=60)
        with watched(rig) as stood_still:
            with transaction(rig.engine) as connection:
                connection.execute(text(CLOSE), {"window": json.dumps(_later())})
            rig.post()  # somebody else's, who does not wait for it
            wait_for("end of all windows", lambda: not _number(rig, LEFT), seconds=300)
        most = rig.kiln.settings.heartbeat_seconds + slowness()
        assert max(stood_still) < most, f"a lease stood still for {max(stood_still):.1f} s"
        for place in places:
            _cancel(rig, place)
        rig.emptied(seconds=300)
    assert _number(rig, "SELECT sum(failures) FROM jobs") == 0, "failures were charged"
    logs = [log.read_text() for log in [*rig.kiln.logs.glob("*.log"), *rig.home.rglob("postgres.log")]]
    seen = [trouble for trouble in TROUBLE if any(trouble in log for log in logs)]
    assert not seen, f"the logs tell of {seen}"
    for place in places:
        assert rig.client.delete(place).status_code == 204
    wait_for("end of all batches", lambda: not _number(rig, "SELECT count(*) FROM batches"), seconds=600)


@contextmanager
def watched(rig: Rig) -> Iterator[list[float]]:
    """For how long a lease stood still at most, in seconds, once the block is over; as seen every tenth of one."""
    stood_still, stopped = [0.0], threading.Event()
    engine = make_engine(rig.services.database_url, name="kiln-watch", pool_size=1)

    def watch() -> None:
        since: dict[Any, tuple[datetime, float]] = {}
        while not stopped.wait(0.1):
            with reading(engine) as connection:
                leases: dict[Any, datetime] = dict(connection.execute(text(LEASES)).tuples().all())
            now = time.monotonic()
            since = {
                token: since[token] if token in since and since[token][0] == expires else (expires, now)
                for token, expires in leases.items()
            }
            stood_still.extend(now - then for _, then in since.values())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield stood_still
    finally:
        stopped.set()
        thread.join()
        engine.dispose()


def _submit(rig: Rig, count: int) -> str:
    """A batch of so many jobs of some seconds; where it is."""
    job = {name: value for name, value in SMALL.items() if name not in ("prompt", "num_inference_steps")}
    matrix = {"prompts": ["a red apple"], "steps": [STEPS], "seeds_per_prompt": count}
    answer = rig.client.post("/v1/batches", json={"defaults": job, "matrix": matrix, "window": _now()}, timeout=600)
    assert answer.status_code == 202, answer.text
    return f"/v1/batches/{answer.json()['id']}"


def _cancel(rig: Rig, place: str) -> None:
    began = time.monotonic()
    answer = rig.client.post(f"{place}/cancel")
    took = time.monotonic() - began
    assert answer.json()["status"] == "canceled", answer.text
    assert took < 2 * slowness(), f"a cancel took {took:.1f} s"


def _now() -> dict[str, Any]:
    return _window(datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1))


def _later() -> dict[str, Any]:
    return _window(datetime.now(UTC) + timedelta(hours=2), datetime.now(UTC) + timedelta(hours=3))


def _window(opens: datetime, closes: datetime) -> dict[str, Any]:
    return {"start": f"{opens:%H:%M}", "end": f"{closes:%H:%M}", "tz": "UTC", "days": list(DAYS)}


def _number(rig: Rig, statement: str) -> int:
    with reading(rig.engine) as connection:
        return int(connection.execute(text(statement)).scalar_one())
