"""Results in, their section of RESULTS.md out: a row measured again replaces itself and leaves the others alone."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.result import Result

LIBRARIES = ("torch", "diffusers", "transformers", "celery", "fastapi", "sqlalchemy", "psycopg")
HEAD = """# Measurements

`make bench` measures all of it, `python -m bench --rows NAME` one section again. Figures are the median of a section's
turns (least to most); ratios are of turns that follow each other. The machine is shared and noisy: believe ratios
before milliseconds, and mind the load at the start: near the number of cores, something else was running.
"""


def describe_machine() -> str:
    """Cores, memory, versions and the load just now."""
    return (
        f"{os.cpu_count()} cores ({_processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}; "
        + ", ".join(f"{library} {version(library).partition('+')[0]}" for library in LIBRARIES)
        + f"; load {os.getloadavg()[0]:.1f} at the start"
    )


def merge(path: Path, name: str, machine: str, seconds: float, results: Sequence[Result], order: Sequence[str]) -> None:
    """Put the section of ``name`` in its place; sections of names that are no longer in ``order`` go."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    sections[name] = "\n" + _section(name, machine, seconds, results) + "\n"
    kept = (f"## {title}\n{sections[title].rstrip()}\n" for title in order if title in sections)
    path.write_text("\n".join([HEAD, *kept]), encoding="utf-8")


def _section(name: str, machine: str, seconds: float, results: Sequence[Result]) -> str:
    lines = [
        f"`python -m bench --rows {name}`, {datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} s. {machine}.",
        "",
        "| measured | median (least to most) | aim | |",
        "|---|---|---|---|",
        *(f"| {result.what} | {result.measured} | {result.aim} | {result.verdict} |" for result in results),
    ]
    return "\n".join(lines)


def _processor() -> str:
    """The CPU's model where the system tells it (Linux on x86), else its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
