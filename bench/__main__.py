"""``python -m bench``: measures this machine's Kiln against its peers, and keeps bench/RESULTS.md up to date."""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.report import describe_machine, merge
from bench.result import Result

# In this order: the gate first. Each is a module of the same name with measure(home, quick).
ROWS = (
    "contract",
    "backlog",
    "traffic",
    "company",
    "latency",
    "startup",
    "throughput",
    "tiny",
    "lane",
    "claims",
    "scale",
    "pinned",
    "memory",
    "preview",
    "night",
    "gpu",
)
RESULTS = Path(__file__).with_name("RESULTS.md")


def main(
    rows: Annotated[str, typer.Option(help=f"which to measure, separated by commas: {', '.join(ROWS)}")] = ",".join(
        ROWS
    ),
    quick: Annotated[bool, typer.Option(help="small and few, to try it out; writes nothing")] = False,
) -> None:
    """Measure the rows one after the other; each replaces its own section of bench/RESULTS.md.

    Exit code 1 where an aim is missed, 2 at once where the bit contract is broken.
    """
    names = rows.split(",")
    if unknown := set(names) - set(ROWS):
        raise typer.BadParameter(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the measured processes would outlive us
    missed = False
    for name in sorted(names, key=ROWS.index):
        results = _measure(name, quick)
        broken = any(result.met is False for result in results)
        missed = missed or broken
        if name == "contract" and broken:
            raise typer.Exit(2)
    raise typer.Exit(missed)


def _measure(name: str, quick: bool) -> list[Result]:
    machine, began = describe_machine(), time.monotonic()
    Console(stderr=True).print(f"measuring {name}…")
    with _home() as home:
        results: list[Result] = import_module(f"bench.{name}").measure(home, quick)
    seconds = time.monotonic() - began
    table = Table("measured", "median (least-most)", "aim", "", title=f"{name}, {seconds:.0f} s")
    for result in results:
        table.add_row(result.what, result.measured, result.aim, result.verdict)
    Console().print(table)
    if not quick:
        merge(RESULTS, name, machine, seconds, results, order=ROWS)
    return results


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


if __name__ == "__main__":
    typer.run(main)
