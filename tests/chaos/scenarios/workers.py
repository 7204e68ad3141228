"""Workers killed, and workers that finish late: a rig and a dose in, harm done and every job over on return."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.chaos import wrong
from tests.chaos.crew import Break, Painter, has_stopped
from tests.chaos.rig import Rig
from tests.processes import wait_for

POINTS = ("claimed", "enhance", "diffuse", "score", "store", "uploading", "finishing", "finished")
STAGES = ("enhance", "diffuse", "score", "store", "finishing")


def kills(rig: Rig, rounds: int, points: Sequence[str] = POINTS) -> None:
    """C1: a worker kills itself at each point; its job is back in the queue a lease and a sweep later, and is done."""
    patience = rig.kiln.settings.lease_seconds + rig.kiln.settings.sweep_seconds + 2
    for _ in range(rounds):
        with rig.painters([f"{point}:kill" for point in points]) as doomed:
            for _ in points:
                rig.post()

            def died(doomed: Sequence[Painter] = doomed) -> bool:
                if not rig.count("queued"):
                    rig.post()  # for the one that found nothing, as another had a job that came back
                return all(worker.exit_code == -signal.SIGKILL for worker in doomed)

            wait_for("deaths", died, seconds=60)
        wait_for("return to the queue", lambda: not rig.count("running"), seconds=patience)
        with rig.painters([""], seats=4):
            rig.emptied()


def late_writes(rig: Rig, rounds: int, points: Sequence[str] = STAGES) -> None:
    """C2: workers are stopped, one in each stage, and wake while another has their jobs: every write is refused."""
    for number in range(1, rounds + 1):
        overtake(rig, points)
        assert rig.refused() >= number * len(points), f"{rig.refused()} late writes refused in {number} rounds"


def late_unfenced_finishes(rig: Rig, rounds: int) -> None:
    """N1: C2 with workers that show no token."""
    for _ in range(rounds):
        overtake(rig, ["finishing"] * 2, wrong.unfenced)


def late_uploads(rig: Rig, rounds: int) -> None:
    """N2: workers are stopped before they upload, and wake after another has done their jobs."""
    for _ in range(rounds):
        with stopped(rig, ["store"] * 2, wrong.overwriting) as late:
            with rig.painters([""], seats=2, broken=wrong.overwriting):
                rig.emptied()
            wake(rig, late)


def unswept(rig: Rig, rounds: int) -> None:
    """N3: workers are killed, and nobody takes their jobs back; others do all that is left."""
    with rig.painters(["diffuse:kill"] * rounds) as doomed:
        for _ in doomed:
            rig.post()
        wait_for("deaths", lambda: all(worker.exit_code == -signal.SIGKILL for worker in doomed), seconds=60)
    with rig.painters([""]):
        rig.post()
        wait_for("other jobs' end", lambda: not rig.count("queued"), seconds=60)
        wait_for("end of the last one", lambda: rig.count("running") == rounds, seconds=60)


def overtake(rig: Rig, points: Sequence[str], broken: Break | None = None) -> None:
    """Late workers write while others, whose devices stand still, have their jobs and keep their leases.

    As many others: each of these jobs, whose attempt failed, gets a worker to itself.
    """
    gate = rig.home / "gate"
    with stopped(rig, points, broken) as late:
        gate.touch()
        with rig.painters([""] * len(points), broken=broken, gate=gate):
            try:
                wait_for("second attempts", lambda: rig.count("running") == len(points), seconds=60)
                wake(rig, late)
            finally:
                gate.unlink()
            rig.emptied()


@contextmanager
def stopped(rig: Rig, points: Sequence[str], broken: Break | None = None) -> Iterator[list[Painter]]:
    """Workers that stopped with a job each, whose jobs were taken back; they go on afterwards."""
    with rig.painters([f"{point}:stop" for point in points], broken=broken) as late:
        try:
            for _ in points:
                rig.post()
            wait_for("stops", lambda: all(has_stopped(worker.pid) for worker in late), seconds=60)
            wait_for("return to the queue", lambda: rig.count("queued") == len(points), seconds=30)
            yield late
        finally:
            for worker in late:
                worker.hurt(signal.SIGCONT)  # a stopped process hears no SIGTERM


def wake(rig: Rig, late: Sequence[Painter]) -> None:
    """Let the stopped ones go on, and wait until each has written, or was refused."""
    for worker in late:
        worker.hurt(signal.SIGCONT)
    wait_for("late writes", lambda: all(_has_written(worker) for worker in late), seconds=30)


def _has_written(worker: Painter) -> bool:
    text = worker.log.read_text()
    return "lease lost" in text or "job ended" in text
