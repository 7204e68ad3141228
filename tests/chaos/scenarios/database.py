"""C4, C16: PostgreSQL stopped at once, and black-holed, under load. A rig and a dose in; every job over on return."""

import signal
import time
from contextlib import suppress
from pathlib import Path
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
SLOTS, CALL_MS, LITTLE = 16, 100, 4  # of C16: jobs of one worker that share a call, and seconds in the small dose
LEAST_PACE = 0.9
TRAINED = 1000  # steps: no scheduler has more


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


def paces(rig: Rig, rounds: int) -> None:
    """C16: one worker paints sixteen pictures at once, and the database is black-holed.

    They paint on at 0.9 of the pace before and after; no failure is charged, and each outage is one warning.
    """
    tally, dark = rig.home / "tally", DARK_SECONDS if rounds > 1 else LITTLE
    with rig.painters([""], seats=SLOTS, tally=tally, call_ms=CALL_MS) as (painter,):
        for _ in range(rounds):
            for _ in range(SLOTS):
                rig.post_patiently(num_inference_steps=min(6 * dark * 1000 // CALL_MS, TRAINED), guidance_scale=1)
            wait_for("jobs at work", lambda: begun(rig) == SLOTS, seconds=60)
            before = pace(tally, dark)
            rig.proxies["database_url"].become("swallow")
            try:
                meanwhile = pace(tally, dark)
            finally:
                rig.proxies["database_url"].become("pass")
            after = pace(tally, dark)
            rig.emptied(seconds=300)
            told = f"{meanwhile:.0f} steps a second while the database was away, {before:.0f} before, {after:.0f} after"
            assert meanwhile >= LEAST_PACE * (before + after) / 2, told
    with reading(rig.engine) as connection:
        charged = connection.execute(text("SELECT sum(failures + excused) FROM jobs")).scalar_one()
    assert charged == 0, f"{charged} returns were charged, or excused"
    warnings = painter.log.read_text().count("progress not saved")
    assert warnings <= rounds, f"{warnings} warnings of {rounds} outages"


def begun(rig: Rig) -> int:
    with reading(rig.engine) as connection:
        began = text("SELECT count(*) FROM jobs WHERE status = 'running' AND progress_done > 0")
        return int(connection.execute(began).scalar_one())


def pace(tally: Path, seconds: float) -> float:
    """U-Net evaluations a second from now on, for so long."""
    began, done = time.monotonic(), tally.stat().st_size
    time.sleep(seconds)
    return (tally.stat().st_size - done) / (time.monotonic() - began)


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
