"""C10: jobs that exhaust, spoil, wedge or kill the device. A rig and a dose in; every job over on return."""

import time
from pathlib import Path

from sqlalchemy import text

from common.db import reading
from common.ids import parse_id
from tests.chaos.crew import Painter, ending
from tests.chaos.rig import Rig
from tests.processes import slowness

CODES = {
    "memory": "out_of_memory",
    "numbers": "numerical_error",
    "black": "numerical_error",
    "wedge": "worker_lost",
    "crash": "worker_lost",
    "sticky": "",  # the device's own fault
}
SEATS, STEPS = 4, 20
SETTINGS = {"tick_timeout": 2, "slots": SEATS, "engine_mode": "fast"}  # so that pictures share the device
NEIGHBORS = SEATS
SECONDS = 120


def harms(rig: Rig, rounds: int) -> None:
    """C10: each harm so many times, one after the other, among jobs that do none and share its device.

    It ends with its own code, and they succeed, charged once at most: for the worker that it killed before anybody
    could know. A device that breaks for good is nobody's fault: all succeed, uncharged, on the next. Dead workers are
    replaced.
    """
    crew: list[Painter] = []
    with ending(crew):
        for _ in range(rounds):
            for harm, code in CODES.items():
                _loss(rig).touch()
                posted = [rig.post(num_inference_steps=STEPS) for _ in range(NEIGHBORS)]
                posted.append(doomed := rig.post(prompt=harm, num_inference_steps=STEPS))
                if code:
                    rig.note({"doomed": doomed, "code": code})
                posted += [rig.post(num_inference_steps=STEPS) for _ in range(NEIGHBORS)]
                work_off(rig, crew)
                if not code:
                    assert not _loss(rig).exists(), "no device was broken"
                    assert _failures(rig, posted) == 0, "a job was charged for the device"
    with reading(rig.engine) as connection:
        most = connection.execute(text("SELECT max(failures) FROM jobs WHERE status = 'succeeded'")).scalar_one()
    assert most <= 1, f"a job was charged {most} failures of its neighbors'"


def _loss(rig: Rig) -> Path:
    return rig.home / "loss"


def _failures(rig: Rig, posted: list[str]) -> int:
    """Of all these jobs."""
    ids = [parse_id("job", one) for one in posted]
    with reading(rig.engine) as connection:
        asked = text("SELECT sum(failures) FROM jobs WHERE id = ANY(:ids)")
        return int(connection.execute(asked, {"ids": ids}).scalar_one())


def work_off(rig: Rig, crew: list[Painter]) -> None:
    """Wait until all jobs are over, with one worker alive."""
    until = time.monotonic() + SECONDS * slowness()
    # Both of one moment: counted one after the other, a job that goes back meanwhile is in neither
    while (states := rig.states())["queued"] or states["running"]:
        assert time.monotonic() < until, states
        if not crew or crew[-1].exit_code is not None:
            crew.append(rig.start(seats=SEATS, loss=_loss(rig)))
        time.sleep(0.1)
