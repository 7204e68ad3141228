"""Jobs per second of two workers against one, each kept to one core. Linux only: elsewhere nothing pins threads."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.result import Result, at_least, ratios, told
from bench.rivals import through_kiln
from bench.throughput import make_spec
from bench.variables import variables
from client.api import Kiln
from common.local import children
from common.local.stack import Stack, running_stack

JOBS = 32
WHAT = "jobs/s of two workers ÷ one, each pinned to one core; the servers run on the same cores"


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, jobs = (1, 4) if quick else (3, JOBS)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        return [Result(WHAT, "open: this machine gives no two cores to pin to", "≥ 1.9", None)]
    specs = [make_spec(seed, enhance=True) for seed in range(jobs)]
    one, two = [], []
    with variables(OMP_NUM_THREADS="1"), running_stack(home) as stack, Kiln(stack.api_url) as kiln:
        first = next(child for child in stack.children if child.name == "worker")
        through_kiln(kiln, specs[:2])  # by now it has all its threads
        _pin(first.process.pid, cores[0])
        for _ in range(rounds):
            one.append(jobs / through_kiln(kiln, specs))
            with _second_worker(home, stack, kiln) as pid:
                through_kiln(kiln, specs[:4])
                _pin(pid, cores[1])
                two.append(jobs / through_kiln(kiln, specs))
    return [
        at_least(f"{WHAT} ({jobs} jobs, {len(cores)} cores)", ratios(two, one), 1.9),
        told("jobs/s of one", one),
        told("jobs/s of two", two),
    ]


@contextmanager
def _second_worker(home: Path, stack: Stack, kiln: Kiln) -> Iterator[int]:
    environment = os.environ | stack.services.environment() | {"KILN_HOME": str(home)}
    worker = children.start(home, "worker-2", [sys.executable, "-m", "worker"], environment=environment)
    try:
        worker.wait_until(lambda: _is_ready(kiln, worker.process.pid), seconds=120)
        yield worker.process.pid
    finally:
        worker.stop()


def _is_ready(kiln: Kiln, pid: int) -> bool:
    time.sleep(0.2)  # an API that is asked all the time has less of its core for others
    return any(
        worker["state"] == "ready" and worker["id"].split(":")[-2] == str(pid) for worker in kiln.workers()["data"]
    )


def _pin(pid: int, core: int) -> None:
    """All of its threads; those that they start inherit it."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
