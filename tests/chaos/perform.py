"""A scenario's name and dose in, done on a Kiln of its own; its result, a row of the table, out."""

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console

from common.errors import KilnError
from tests.chaos.disks import NotRun
from tests.chaos.rig import Rig, running_rig
from tests.chaos.scenarios import SCENARIOS, Scenario

Result = dict[str, Any]


def perform(name: str, dose: int) -> Result:
    """Hurt a Kiln and ask the checker.

    "good" is whether a scenario of the table passed, and of a negative control whether the checker saw something; None
    where this machine cannot do it.
    """
    scenario, began = SCENARIOS[name], time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory() as home,
            running_rig(Path(home), scenario.through, scenario.disks, **scenario.settings) as rig,
        ):
            failure = _do(scenario, rig, dose)
            report = scenario.report(rig)
            refused = rig.refused()
    except NotRun as reason:
        return unheard(name, dose, f"not run: {reason}") | {"good": None}
    well = scenario.judge(report) and not failure
    told = {"scenario": name, "rounds": dose, "seconds": round(time.monotonic() - began), "good": well}
    return told | {"failure": failure, "refused": refused} | asdict(report)


def unheard(name: str, dose: int, why: str) -> Result:
    """The result of a scenario that gave none."""
    return {"scenario": name, "rounds": dose, "good": False, "failure": why}


def _do(scenario: Scenario, rig: Rig, dose: int) -> str:
    """Do the harm; what went otherwise than the scenario says. Raises NotRun."""
    try:
        scenario.harm(rig, dose)
    except (AssertionError, KilnError, httpx2.HTTPError) as error:
        Console(stderr=True).print(f"{rig.states()}\n{rig.kiln.tails()}", markup=False, highlight=False)
        return f"{type(error).__name__}: {error}"[:2000]
    return ""
