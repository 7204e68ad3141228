"""Jobs per second of two and four workers on one batch against one, each kept to one core. Linux only: elsewhere
nothing pins threads.

Four need four cores: where there are fewer, two share one, and the figure says what that costs, with no aim.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from bench.result import Result, at_least, ratios, told
from bench.rivals import asked, through_kiln
from bench.throughput import make_spec
from bench.variables import variables
from client.api import Kiln
from common.jobs.spec import JobSpec
from common.local import children
from common.local.stack import Stack, running_stack

JOBS = 32
WHAT = "jobs/s of {} workers on one batch ÷ one, each pinned to one core; the servers run on the same cores"
AIMS = {2: 1.9, 4: 3.8}


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, jobs = (1, 4) if quick else (3, JOBS)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        return [Result(WHAT.format(2), "open: this machine gives no two cores to pin to", "≥ 1.9", None)]
    specs = [make_spec(seed, enhance=True) for seed in range(jobs)]
    speeds: dict[int, list[float]] = {count: [] for count in (1, *AIMS)}
    with variables(OMP_NUM_THREADS="1"), running_stack(home) as stack, Kiln(stack.api_url) as kiln:
        first = next(child for child in stack.children if child.name == "worker")
        through_kiln(kiln, specs[:2])  # by now it has all its threads
        _pin(first.process.pid, cores[0])
        for _ in range(rounds):
            for count, found in speeds.items():
                with _more_workers(home, stack, kiln, count) as pids:
                    through_kiln(kiln, specs[: 2 * count])
                    for place, pid in enumerate(pids, 1):
                        _pin(pid, cores[place % len(cores)])
                    found.append(jobs / _paint_batch(kiln, specs))
    where = f"({jobs} jobs, {len(cores)} cores)"
    return [
        (at_least if count <= len(cores) else _told_alone)(
            f"{WHAT.format(count)} {where}", ratios(speeds[count], speeds[1]), aim
        )
        for count, aim in AIMS.items()
    ] + [told(f"jobs/s of {count}", found) for count, found in speeds.items()]


def _paint_batch(kiln: Kiln, specs: Sequence[JobSpec]) -> float:
    """Seconds by the database's clock from the batch's row to its last job's end."""
    lines = "\n".join(json.dumps(asked(spec)) for spec in specs)
    batch = kiln.wait_batch(kiln.submit_batch(lines.encode(), name="pinned")["id"])
    assert batch["counts"]["succeeded"] == len(specs), batch  # noqa: S101 - a failed job measures nothing
    began, ended = (datetime.fromisoformat(batch[name]) for name in ("created_at", "finished_at"))
    return (ended - began).total_seconds()


def _told_alone(what: str, values: Sequence[float], aim: float) -> Result:
    """An aim that this machine cannot meet: its workers share cores."""
    return told(f"{what}: several on a core, so that {aim:g} is out of reach here", values)


@contextmanager
def _more_workers(home: Path, stack: Stack, kiln: Kiln, count: int) -> Iterator[list[int]]:
    """So many workers in all, the stack's own among them; the process ids of the others."""
    environment = os.environ | stack.services.environment() | {"KILN_HOME": str(home)}
    with ExitStack() as workers:
        pids = []
        for number in range(2, count + 1):
            command = [sys.executable, "-m", "worker"]
            worker = children.start(home, f"worker-{number}", command, environment=environment)
            workers.callback(worker.stop)
            worker.wait_until(partial(_is_ready, kiln, worker.process.pid), seconds=240)
            pids.append(worker.process.pid)
        yield pids


def _is_ready(kiln: Kiln, pid: int) -> bool:
    time.sleep(0.2)  # an API that is asked all the time has less of its core for others
    return any(
        worker["state"] == "ready" and worker["id"].split(":")[-2] == str(pid) for worker in kiln.workers()["data"]
    )


def _pin(pid: int, core: int) -> None:
    """All of its threads; those that they start inherit it."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
