"""``python -m tests.chaos.table RESULTS``: the results of runs, JSON lines, in; the chaos table in Markdown out."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tests.chaos.scenarios import SCENARIOS

HEADINGS = {
    "scenario": "",
    "rounds": "dose",
    "attempted": "attempted",
    "acknowledged": "acknowledged",
    "succeeded": "succeeded",
    "lost": "lost",
    "duplicated": "duplicated",
    "unexpected": "unexpected",
    "recovered": "recovered",
    "refused": "late writes refused",
    "recovery": "recovery p50 / p99, s",
    "attempts_per_success": "attempts per success",
    "seconds": "took, s",
    "outcome": "as it must be",
}


def main(results: Annotated[Path, typer.Argument(help="what --output wrote")]) -> None:
    """The latest result of each scenario, a row each."""
    latest = {line["scenario"]: line for line in map(json.loads, results.read_text(encoding="utf-8").splitlines())}
    found = [latest[name] for name in SCENARIOS if name in latest]
    for line in (list(HEADINGS.values()), ["---"] * len(HEADINGS), *map(row, found)):
        typer.echo(f"| {' | '.join(line)} |")


def row(result: dict[str, Any]) -> list[str]:
    quick, slow = show(result.get("recovery_p50")), show(result.get("recovery_p99"))
    told = result | {"recovery": f"{quick} / {slow}" if quick else None, "outcome": outcome(result)}
    return [show(told.get(name)) for name in HEADINGS]


def outcome(result: dict[str, Any]) -> str:
    if result["scenario"] == "baseline":
        return "not judged"
    if result["good"] is None:
        return str(result["failure"])
    if not result["good"]:
        return f"**no** {result['failure'].partition(chr(10))[0]}"
    return "yes: seen" if result["scenario"].startswith("N") else "yes"


def show(value: object) -> str:
    return "" if value is None else str(value)


if __name__ == "__main__":
    typer.run(main)
