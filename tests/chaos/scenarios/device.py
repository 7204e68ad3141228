"""C10: jobs that exhaust, spoil, wedge or kill the device. A rig and a dose in; every job over on return."""

import time

from sqlalchemy import text

from common.db import reading
from tests.chaos.crew import Painter, ending
from tests.chaos.rig import Rig
from tests.processes import slowness

CODES = {
    "memory": "out_of_memory",
    "numbers": "numerical_error",
    "black": "numerical_error",
    "wedge": "worker_lost",
    "crash": "worker_lost",
}
SEATS, STEPS = 4, 20
SETTINGS = {"tick_timeout": 2, "slots": SEATS, "engine_mode": "fast"}  # so that pictures share the device
NEIGHBORS = SEATS
SECONDS = 120


def harms(rig: Rig, rounds: int) -> None:
    """C10: each harm so many times, one after the other, among jobs that do none and share its device.

    It ends with its own code, and they succeed, charged once at most: for the worker that it killed before anybody
    could know. Dead workers are replaced.
    """
    crew: list[Painter] = []
    with ending(crew):
        for _ in range(rounds):
            for harm, code in CODES.items():
                for _ in range(NEIGHBORS):
                    rig.post(num_inference_steps=STEPS)
                doomed = rig.post(prompt=harm, num_inference_steps=STEPS)
                rig.note({"doomed": doomed, "code": code})
                for _ in range(NEIGHBORS):
                    rig.post(num_inference_steps=STEPS)
                work_off(rig, crew)
    with reading(rig.engine) as connection:
        most = connection.execute(text("SELECT max(failures) FROM jobs WHERE status = 'succeeded'")).scalar_one()
    assert most <= 1, f"a job was charged {most} failures of its neighbors'"


def work_off(rig: Rig, crew: list[Painter]) -> None:
    """Wait until all jobs are over, with one worker alive."""
    until = time.monotonic() + SECONDS * slowness()
    # Both of one moment: counted one after the other, a job that goes back meanwhile is in neither
    while (states := rig.states())["queued"] or states["running"]:
        assert time.monotonic() < until, states
        if not crew or crew[-1].exit_code is not None:
            crew.append(rig.start(seats=SEATS))
        time.sleep(0.1)
