"""C4: PostgreSQL stopped at once, and black-holed, under load. A rig and a dose in; every job over on return."""

import signal
import time
from contextlib import suppress
from uuid import uuid4

import httpx2
from sqlalchemy import text

from common.db import reading
from tests.chaos.rig import SMALL, Rig
from tests.chaos.servers import Servers
from tests.processes import slowness, wait_for

JOBS, STEPS = 8, 100  # twice as many as there are seats, so that a lost attempt is seen in the mean; of 0.4 s each
ANSWER_SECONDS = 2
DARK_SECONDS = 30
MOST_ATTEMPTS = 1.3


def outages(rig: Rig, rounds: int) -> None:
    """C4: ``rounds`` immediate stops and half as many black holes.

    The API says 503 within 2 s meanwhile; jobs go on afterwards where they were.
    """
    servers = Servers(rig)
    late: list[str] = []
    with rig.painters(["", ""], seats=2):
        for _ in range(rounds):
            load(rig)
            servers.end("postgres", signal.SIGQUIT)
            try:
                late += refused(rig, "stopped")
            finally:
                servers.start_database()
            rig.emptied()
        for _ in range((rounds + 1) // 2):
            load(rig)
            late += darken(rig, DARK_SECONDS if rounds > 1 else ANSWER_SECONDS)
            rig.emptied()
    with reading(rig.engine) as connection:
        attempts = connection.execute(text("SELECT avg(attempt) FROM jobs WHERE status = 'succeeded'")).scalar_one()
    assert attempts < MOST_ATTEMPTS, f"{attempts:.2f} attempts per job"
    assert not late, "; ".join(late)


def load(rig: Rig) -> None:
    """More jobs than there are seats, some of them begun."""
    for _ in range(JOBS):
        rig.post_patiently(num_inference_steps=STEPS)
    wait_for("jobs at work", lambda: rig.count("running"))


def darken(rig: Rig, seconds: float) -> list[str]:
    """Let nothing through, neither way, for so long at least; connections are taken, and nobody is told."""
    database, until = rig.proxies["database_url"], time.monotonic() + seconds
    database.become("swallow")
    try:
        late = refused(rig, "out of reach")
        time.sleep(max(0, until - time.monotonic()))
        return late
    finally:
        database.become("pass")


def refused(rig: Rig, fault: str) -> list[str]:
    """Whoever asks is told within two seconds that the database is away; a sentence for each who is not."""
    late, key, limit = list[str](), uuid4().hex, ANSWER_SECONDS * slowness()
    rig.note({"asked": key})  # an insert that was under way may yet arrive
    for method, body in (("POST", SMALL), ("GET", None)):
        began, status = time.monotonic(), 0
        with suppress(httpx2.TimeoutException):  # told as 0
            status = rig.client.request(
                method, "/v1/jobs", json=body, headers={"Idempotency-Key": key}, timeout=3 * limit
            ).status_code
        took = time.monotonic() - began
        if status != 503 or took > limit:
            late.append(f"with the database {fault} {method} /v1/jobs was answered {status} after {took:.1f} s")
    return late
