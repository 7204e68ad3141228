"""Pictures per second through the whole of Kiln against a plain diffusers loop: same weights, cores, steps and seeds.

The loop and Kiln take turns, each idle while the other works; the ratio of each pair of turns counts.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.result import Result, spread
from client.api import Kiln
from common.local.stack import running_stack

JOBS = 32
WHAT = "pictures/s, whole system ÷ plain diffusers loop"


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, jobs = (2, 8) if quick else (3, JOBS)
    plain: dict[bool, list[float]] = {False: [], True: []}
    whole: dict[bool, list[float]] = {False: [], True: []}
    with running_stack(home) as stack, Kiln(stack.api_url) as kiln, _Loop(home, jobs) as loop:
        _paint_through(kiln, 4, enhance=True)
        for _ in range(rounds):
            for enhance in (False, True):
                plain[enhance].append(jobs / loop.paint(everything=enhance))
                whole[enhance].append(jobs / _paint_through(kiln, jobs, enhance=enhance))
    return [
        _row(f"{WHAT} ({jobs} jobs; the loop neither scores nor makes thumbnails)", whole[False], plain[False], 0.9),
        _row(f"the same, where both enhance and score ({jobs} jobs)", whole[True], plain[True], None),
        Result("pictures/s of the plain loop", spread(plain[False]), "", None),
        Result("pictures/s of the whole system", spread(whole[False]), "", None),
    ]


def _paint_through(kiln: Kiln, jobs: int, *, enhance: bool) -> float:
    """Seconds from the first POST until the last of ``jobs`` has its picture in the bucket."""
    began = time.perf_counter()
    ids = [kiln.submit("a red apple on a wooden table", seed=seed, enhance=enhance)["id"] for seed in range(jobs)]
    for job_id in reversed(ids):
        job = kiln.wait(job_id)
        assert job["status"] == "succeeded", job  # noqa: S101 - a failed job measures nothing
    return time.perf_counter() - began


class _Loop:
    """The plain loop in a process of its own, which paints when told to."""

    def __init__(self, folder: Path, pictures: int) -> None:
        self._command = [sys.executable, "-m", "bench.plain", str(folder), str(pictures)]

    def __enter__(self) -> "_Loop":
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self._answer()
        except BaseException:  # also our own end: the loop must not stay behind
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def paint(self, *, everything: bool) -> float:
        """Seconds for all its pictures."""
        assert self._process.stdin is not None  # noqa: S101 - Popen made it
        self._process.stdin.write(f"{int(everything)}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - Popen made it
        return self._process.stdout.readline()


def _row(what: str, ours: list[float], theirs: list[float], aim: float | None) -> Result:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    met = statistics.median(ratios) >= aim if aim else None
    return Result(what, spread(ratios), f"≥ {aim:g}" if aim else "", met)
