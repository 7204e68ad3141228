"""C15: an object store that takes everything and answers nothing. A rig and a dose in; every job over on return."""

import time
from pathlib import Path

from sqlalchemy import text

from common.db import reading
from tests.chaos.crew import Painter, ending
from tests.chaos.rig import Rig
from tests.chaos.servers import Servers
from tests.processes import slowness, wait_for

JOBS, SEATS, STEPS, CALL_MS = 4, 2, 60, 25
SILENT_SECONDS = 3  # while jobs are given back: what a store's restart takes, and less than they have for it
LONG_SECONDS = 30  # while they are taken up, in the full dose
ANSWER_SECONDS = 2


def silences(rig: Rig, rounds: int) -> None:
    """C15: the store stands still as jobs paint and are given back, and again as they are taken up.

    No failure is charged, no step is done twice, and the API answers within 2 s.
    """
    servers, tally = Servers(rig), rig.home / "tally"
    for _ in range(rounds):
        first = rig.start(seats=SEATS, tally=tally, call_ms=CALL_MS)
        with ending([first]):
            for _ in range(JOBS):
                rig.post_patiently(num_inference_steps=STEPS, guidance_scale=1)
            wait_for("jobs at work", lambda: rig.count("running") == SEATS and begun(rig) > 0, seconds=60)
            with servers.stopped("s3"):
                first.process.terminate()
                watch(rig, SILENT_SECONDS)
            first.process.join(60 * slowness())
            assert first.exit_code == 0, f"exit code {first.exit_code}\n{first.log.read_text()[-3000:]}"
        take_up(rig, servers, tally, LONG_SECONDS if rounds > 1 else SILENT_SECONDS)
    with reading(rig.engine) as connection:
        charged, asked = connection.execute(text("SELECT sum(failures + excused), sum(progress_total) FROM jobs")).one()
    assert charged == 0, f"{charged} returns were charged, or excused"
    done = tally.stat().st_size
    assert done == asked, f"{done} steps were done for jobs of {asked}"


def take_up(rig: Rig, servers: Servers, tally: Path, seconds: float) -> None:
    """Have another worker do the rest. It claims while the store is silent, and waits to hear what was kept."""
    with servers.stopped("s3"):
        second: Painter = rig.start(seats=SEATS, tally=tally, call_ms=CALL_MS)
        try:
            wait_for("claims", lambda: rig.count("running") == SEATS, seconds=60)
            watch(rig, seconds)
        except BaseException:
            second.stop()
            raise
    with ending([second]):
        rig.emptied()


def begun(rig: Rig) -> int:
    with reading(rig.engine) as connection:
        return int(connection.execute(text("SELECT count(*) FROM jobs WHERE progress_done > 0")).scalar_one())


def watch(rig: Rig, seconds: float) -> None:
    """Whoever asks is answered meanwhile."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for path in ("/v1/jobs", "/healthz"):
            began = time.monotonic()
            answer = rig.client.get(path)
            took = time.monotonic() - began
            assert answer.status_code == 200, f"{path}: {answer.status_code}"
            assert took < ANSWER_SECONDS * slowness(), f"{path} was answered after {took:.1f} s"
        time.sleep(0.2)
