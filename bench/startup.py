"""Seconds from ``kiln up`` until it says that it is ready: the first time, with an empty home, and later."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.result import Result, spread


def measure(home: Path, quick: bool) -> list[Result]:
    first = _start(home)
    later = [_start(home) for _ in range(1 if quick else 4)]
    return [
        Result("`kiln up` to ready", spread(later, " s", 1), "≤ 8 s", statistics.median(later) <= 8),
        Result("the same, the first time (makes the database)", f"{first:.1f} s", "≤ 8 s", first <= 8),
    ]


def _start(home: Path) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "client", "up", "--home", str(home)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None  # noqa: S101 - Popen made it
        for line in process.stderr:
            if line.startswith("Ready after"):
                return time.perf_counter() - began
        raise RuntimeError("kiln up ended before it was ready")
    finally:
        process.terminate()
        process.wait()
