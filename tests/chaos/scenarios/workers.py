"""Workers killed, and workers that finish late: a rig and a dose in, harm done and every job over on return."""

import os
import signal
from functools import partial
from subprocess import Popen

from tests.chaos.rig import Rig, has_stopped
from tests.processes import wait_for

POINTS = ("claimed", "enhance", "diffuse", "score", "store", "uploading", "finishing", "finished")


def kills(rig: Rig, rounds: int) -> None:
    """C1: a worker kills itself at each point, ``rounds`` times, beside another that stays."""
    jobs: list[str] = []
    with rig.worker("heir"):
        for point in POINTS * rounds:
            with rig.worker("doomed", f"{point}:kill") as doomed:

                def died(doomed: Popen[bytes] = doomed) -> bool:
                    if not any(rig.kiln.job(job)["status"] == "queued" for job in jobs[-2:]):
                        jobs.append(rig.post())  # until the doomed one is quicker than the heir
                    return doomed.poll() == -signal.SIGKILL

                wait_for(f"death at {point}", died, seconds=60)
        rig.settled(jobs)


def late_finishes(rig: Rig, rounds: int, module: str = "worker") -> None:
    """C2: a worker is stopped before its finish, wakes while another has the job, and writes.

    N1 is the same with a worker that shows no token.
    """
    for number in range(rounds):
        with rig.worker(f"late-{number}", "finishing:stop", module) as late:
            try:
                job = rig.post()
                wait_for("stop", partial(has_stopped, late), seconds=60)
                rig.kiln.wait(job, lambda seen: seen["status"] == "queued", seconds=30)
                _overtake(rig, job, late.pid, f"heir-{number}", module)
            finally:
                late.send_signal(signal.SIGCONT)  # a stopped process hears no SIGTERM


def _overtake(rig: Rig, job: str, late: int, name: str, module: str) -> None:
    """Another worker holds the job, and is about to finish it, as the late one writes."""
    with rig.worker(name, "finishing:stop", module) as heir:
        try:
            wait_for("second attempt", lambda: has_stopped(heir), seconds=60)
            os.kill(late, signal.SIGCONT)
            wait_for("late write", lambda: _has_written(rig), seconds=30)
        finally:
            heir.send_signal(signal.SIGCONT)
        rig.settled([job])


def _has_written(rig: Rig) -> bool:
    """Whether a late worker was refused, or was not."""
    logs = [log.read_text() for log in rig.kiln.logs.glob("late-*.log")]
    return all("lease lost" in text or "job ended" in text for text in logs)
