"""``python -m tests.chaos``: scenarios in, each on a Kiln of its own; one JSON object per scenario out."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import print_json

from tests.chaos.pool import perform_all
from tests.chaos.scenarios import SCENARIOS

AT_ONCE = 6
LONGEST = ("C13", "C14", "C10", "C1", "C3", "C12", "N1")  # which begin first


def main(
    names: Annotated[list[str] | None, typer.Argument(help="scenarios, as C1; all where none is named")] = None,
    rounds: Annotated[int | None, typer.Option(help="dose of each, instead of its full one", min=1)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="a small dose of each, instead of its full one")] = False,
    at_once: Annotated[int, typer.Option(help="scenarios at a time", min=1)] = AT_ONCE,
    output: Annotated[Path | None, typer.Option(help="file that gets the results, one JSON object a line")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="leave out what is good in that file, in this dose")] = False,
) -> None:
    """Hurt a real Kiln and ask the checker what became of its jobs. Exit code 1 where a scenario is not as it must be.

    Where "good" is null, "failure" says what this machine has not that the scenario needs.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    doses = {name: rounds or (SCENARIOS[name].quick if quick else SCENARIOS[name].full) for name in names or SCENARIOS}
    done = read(output) if output and resume else set()
    left = {name: doses[name] for name in sorted(doses, key=lambda name: name not in LONGEST)}
    good = True
    for result in perform_all({name: dose for name, dose in left.items() if (name, dose) not in done}, at_once):
        good &= result["good"] is not False
        print_json(data=result)
        if output:
            with output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
    raise typer.Exit(not good)


def read(output: Path) -> set[tuple[str, int]]:
    """Which scenarios are good, in which dose, by an earlier run's results."""
    lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
    return {(result["scenario"], result["rounds"]) for result in map(json.loads, lines) if result["good"]}


if __name__ == "__main__":
    typer.run(main)
