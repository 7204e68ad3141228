"""``python -m tests.chaos.soak``: some 2,000 jobs at full speed in; what processes and database keep of them out.

Resident memory is compared by quarters of the jobs: the last may hold 3 % more than the second. Open files,
connections and threads are counted at rest before and after.
"""

import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich import print_json
from sqlalchemy import text

from common.db import reading
from tests.chaos.rig import Rig, running_rig

WAITING = 50  # jobs in the queue: enough that no seat is ever idle
WARM_UP = 100  # jobs: after them every pool and cache has what it keeps
GROWTH = 1.03  # of the last quarter over the second
AT_REST = 12  # seconds without a change; the API's idle threads go after ten
USUAL = {"lease_seconds": 60, "heartbeat_seconds": 15, "sweep_seconds": 1}


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds open."""

    files: int
    connections: int
    threads: int


@dataclass(frozen=True, slots=True)
class Soaked:
    """One process: resident MiB in the middle of each quarter, and what it held before and after."""

    quarters: tuple[float, ...]
    before: Held
    after: Held

    @property
    def good(self) -> bool:
        grown = any(after > before for before, after in zip(*map(_numbers, (self.before, self.after)), strict=True))
        return self.quarters[3] <= GROWTH * self.quarters[1] and not grown


def main(
    jobs: Annotated[int, typer.Option(help="jobs after the warm-up", min=8 * WAITING)] = 2000,
    light: Annotated[bool, typer.Option("--light", help="a worker whose model paints noise at once")] = False,
) -> None:
    """Exit code 1 where something grew or was left over."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    with tempfile.TemporaryDirectory() as home, running_rig(Path(home), **USUAL) as rig, worker(rig, light) as pid:
        result = soak(rig, processes(pid), jobs)
    print_json(data=result)
    raise typer.Exit(not result["good"])


@contextmanager
def worker(rig: Rig, light: bool) -> Iterator[int]:
    """The process id of a ready worker."""
    if light:
        with rig.painters([""], seats=4, call_ms=0) as (painter,):
            yield painter.pid
    else:
        with rig.kiln.worker() as process:
            yield process.pid


def processes(worker_pid: int) -> dict[str, psutil.Process]:
    """Kiln's three, which are children of ours."""
    modules = {tuple(child.cmdline()[1:3]): child for child in psutil.Process().children()}
    return {
        "api": modules["-m", "api"],
        "sweeper": modules["-m", "worker.sweeper"],
        "worker": psutil.Process(worker_pid),
    }


def soak(rig: Rig, watched: dict[str, psutil.Process], jobs: int) -> dict[str, Any]:
    """Paint, and tell what it left behind."""
    paint(rig, watched, WARM_UP)
    before, bytes_before = at_rest(watched), database_bytes(rig)
    began = time.monotonic()
    samples = paint(rig, watched, jobs)
    seconds = time.monotonic() - began
    bytes_per_job = (database_bytes(rig) - bytes_before) / jobs
    after, states = at_rest(watched), rig.states()
    found = {name: Soaked(quarters(samples[name], jobs), before[name], after[name]) for name in watched}
    good = all(each.good for each in found.values()) and states == Counter(succeeded=WARM_UP + jobs)
    told = {"jobs": jobs, "seconds": round(seconds), "database_bytes_per_job": round(bytes_per_job)}
    return told | {"good": good, "states": states} | {name: asdict(each) for name, each in found.items()}


def paint(rig: Rig, watched: dict[str, psutil.Process], jobs: int) -> dict[str, list[tuple[int, int]]]:
    """Keep the queue filled until so many more jobs are over, each read once; resident bytes at each count of them."""
    samples: dict[str, list[tuple[int, int]]] = {name: [] for name in watched}
    sent: list[str] = []
    before, read = rig.states()["succeeded"], 0  # and so the first seed that is new: an equal job is over at once
    while (done := rig.states()["succeeded"] - before) < jobs:
        for name, process in watched.items():
            samples[name].append((done, process.memory_info().rss))
        for number in range(len(sent), min(done + WAITING, jobs)):
            sent.append(rig.post(seed=before + number, enhance=True, num_inference_steps=2))
        for job_id in sent[read:done]:
            rig.kiln.job(job_id)
        read = done
        time.sleep(0.1)
    return samples


def quarters(samples: list[tuple[int, int]], jobs: int) -> tuple[float, ...]:
    """The median MiB of the samples of each quarter of the jobs."""
    parts: list[list[int]] = [[], [], [], []]
    for done, resident in samples:
        parts[min(4 * done // jobs, 3)].append(resident)
    return tuple(round(statistics.median(part) / 2**20, 1) for part in parts)


def at_rest(watched: dict[str, psutil.Process]) -> dict[str, Held]:
    """What each process holds once nothing of it has changed for a while."""
    seen, since = held(watched), time.monotonic()
    while time.monotonic() - since < AT_REST:
        time.sleep(0.5)
        if (now := held(watched)) != seen:
            seen, since = now, time.monotonic()
    return seen


def held(watched: dict[str, psutil.Process]) -> dict[str, Held]:
    return {
        name: Held(process.num_fds(), len(process.net_connections("inet")), process.num_threads())
        for name, process in watched.items()
    }


def database_bytes(rig: Rig) -> int:
    with reading(rig.engine) as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def _numbers(each: Held) -> tuple[int, ...]:
    return (each.files, each.connections, each.threads)


if __name__ == "__main__":
    typer.run(main)
