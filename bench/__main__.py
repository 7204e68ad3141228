"""``python -m bench``: measures speed and memory on this machine, prints the table and writes bench/RESULTS.md."""

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench import latency, memory, startup, throughput
from bench.result import Result

MEASUREMENTS = {
    "latency": latency.measure,
    "startup": startup.measure,
    "throughput": throughput.measure,
    "memory": memory.measure,
}
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*MEASUREMENTS, []], help="measure these alone, and write nothing")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, to try it out; writes nothing")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the measured processes would outlive us
    results: list[Result] = []
    for name in arguments.only or MEASUREMENTS:
        with _home() as home:
            Console(stderr=True).print(f"measuring {name}…")
            results += MEASUREMENTS[name](home, arguments.quick)
    _print(results)
    if not arguments.only and not arguments.quick:
        RESULTS.write_text(_write(results), encoding="utf-8")
    return 1 if any(result.met is False for result in results) else 0


@contextmanager
def _home() -> Iterator[Path]:
    """An empty home; gone afterwards, and so is its database, which lies elsewhere where root runs us."""
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as folder:
        home = Path(folder)
        try:
            yield home
        finally:
            place = home / "postgres.place"
            if place.exists():
                shutil.rmtree(place.read_text(encoding="utf-8"))


def _print(results: list[Result]) -> None:
    table = Table("measured", "median (least-most)", "aim", "")
    for result in results:
        table.add_row(result.what, result.measured, result.aim, _verdict(result))
    Console().print(table)


def _write(results: list[Result]) -> str:
    libraries = ("torch", "diffusers", "transformers", "celery", "fastapi", "sqlalchemy", "psycopg")
    lines = [
        "# Measurements",
        "",
        f"`make bench`, {datetime.now(UTC):%Y-%m-%d}. {os.cpu_count()} cores ({_processor()}), "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}; "
        + ", ".join(f"{library} {version(library).partition('+')[0]}" for library in libraries)
        + ".",
        "The machine is shared and noisy: believe ratios of interleaved runs before milliseconds.",
        "",
        "| measured | median (least to most) | aim | |",
        "|---|---|---|---|",
        *(f"| {result.what} | {result.measured} | {result.aim} | {_verdict(result)} |" for result in results),
    ]
    return "\n".join(lines) + "\n"


def _processor() -> str:
    """The CPU's model where the system tells it (Linux on x86), else its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _verdict(result: Result) -> str:
    return "" if result.met is None else "ok" if result.met else "missed"


if __name__ == "__main__":
    sys.exit(main())
