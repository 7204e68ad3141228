"""``python -m tests.chaos``: scenarios in, each on a Kiln of its own; one JSON object per scenario out."""

import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from rich import print_json
from rich.console import Console

from common.errors import KilnError
from tests.chaos.rig import NotRun, Rig, running_rig
from tests.chaos.scenarios import SCENARIOS, Scenario


def main(
    names: Annotated[list[str] | None, typer.Argument(help="scenarios, as C1; all where none is named")] = None,
    rounds: Annotated[int | None, typer.Option(help="dose of each, instead of its full one", min=1)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="a small dose of each, instead of its full one")] = False,
    output: Annotated[Path | None, typer.Option(help="file that gets the results, one JSON object a line")] = None,
) -> None:
    """Hurt a real Kiln and ask the checker what became of its jobs. Exit code 1 where a scenario is not as it must be.

    A scenario of the table passes without a violation; a negative control passes where the checker sees one. One that
    this machine cannot do is neither: "good" is null, and "failure" says what is missing.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    good = True
    for name in names or SCENARIOS:
        scenario = SCENARIOS[name]
        dose = rounds or (scenario.quick if quick else scenario.full)
        began = time.monotonic()
        with (
            tempfile.TemporaryDirectory() as home,
            running_rig(Path(home), scenario.through, **scenario.settings) as rig,
        ):
            ran, failure = _do(scenario, rig, dose)
            report = scenario.report(rig)
            refused = rig.refused()
        well = scenario.clean in (report.passed, None) and not failure if ran else None
        good &= well is not False
        told = {"scenario": name, "rounds": dose, "seconds": round(time.monotonic() - began), "good": well}
        result = told | {"failure": failure, "refused": refused} | asdict(report)
        print_json(data=result)
        if output:
            with output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
    raise typer.Exit(not good)


def _do(scenario: Scenario, rig: Rig, dose: int) -> tuple[bool, str]:
    """Do the harm; whether that could be done here, and what went otherwise than the scenario says, or why not."""
    try:
        scenario.harm(rig, dose)
    except NotRun as reason:
        Console(stderr=True).print(f"not run: {reason}", markup=False, highlight=False)
        return False, f"not run: {reason}"
    except (AssertionError, KilnError, httpx2.HTTPError) as error:
        Console(stderr=True).print(f"{rig.states()}\n{rig.kiln.tails()}", markup=False, highlight=False)
        return True, f"{type(error).__name__}: {error}"[:2000]
    return True, ""


if __name__ == "__main__":
    typer.run(main)
