"""C12: workers told to stop, one after the other, under load. A rig and a dose in; every job over on return."""

import time
from pathlib import Path

from sqlalchemy import text

from common.db import reading
from tests.chaos.crew import Painter, ending
from tests.chaos.rig import Rig
from tests.processes import slowness, wait_for

WORKERS, JOBS, STEPS, CALL_MS = 2, 6, 40, 25  # jobs of about a second, so that each SIGTERM meets some at work
GIVEN_SECONDS = 20  # between two SIGTERMs to one worker


def drains(rig: Rig, rounds: int) -> None:
    """C12: each worker gets a SIGTERM, ``rounds`` times over, as another takes its place.

    No failure is charged, and no step is done twice.
    """
    tally = rig.home / "tally"
    crew = [_start(rig, tally) for _ in range(WORKERS)]
    with ending(crew):
        for _ in range(rounds):
            for place, worker in enumerate(crew):
                crew[place] = _start(rig, tally)
                _load(rig, worker, seconds=GIVEN_SECONDS / WORKERS if rounds > 1 else 0)
                worker.process.terminate()
                worker.process.join(60 * slowness())
                assert worker.exit_code == 0, f"exit code {worker.exit_code}\n{worker.log.read_text()[-3000:]}"
        rig.emptied(seconds=300)
    with reading(rig.engine) as connection:
        charged, asked = connection.execute(text("SELECT sum(failures), sum(progress_total) FROM jobs")).one()
    assert charged == 0, f"{charged} failures were charged"
    done = tally.stat().st_size
    assert done == asked, f"{done} steps were done for jobs of {asked}"


def _start(rig: Rig, tally: Path) -> Painter:
    worker = rig.start(seats=2, tally=tally, call_ms=CALL_MS)
    wait_for("ready worker", lambda: worker.pid in rig.kiln.ready_workers(), seconds=60)
    return worker


def _load(rig: Rig, worker: Painter, *, seconds: float) -> None:
    """Keep some jobs waiting, for so long, and until ``worker`` is in the middle of one."""
    until = time.monotonic() + seconds
    while time.monotonic() < until or not _is_painting(rig, worker):
        while rig.count("queued") < JOBS:
            rig.post(num_inference_steps=STEPS, guidance_scale=1, scheduler="dpm_solver_multistep")
        time.sleep(0.05)


def _is_painting(rig: Rig, worker: Painter) -> bool:
    statement = text("SELECT FROM jobs WHERE stage = 'diffuse' AND progress_done > 0 AND worker LIKE :worker")
    with reading(rig.engine) as connection:
        return connection.execute(statement, {"worker": f"%:{worker.pid}:%"}).first() is not None
