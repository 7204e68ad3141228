"""The chaos table in its small dose: what ``make chaos QUICK=1`` does, and each of its rows."""

import json
import os
from pathlib import Path

import pytest

from tests.chaos.perform import Result
from tests.chaos.scenarios import SCENARIOS
from tests.processes import running, slowness

pytestmark = pytest.mark.timeout(1800)  # all that the rows take stands in the first of them

SECONDS = 1200
JUDGED = [name for name, scenario in SCENARIOS.items() if scenario.judged]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("chaos")
    output, log = folder / "results.jsonl", folder / "log"
    with running(["tests.chaos", *JUDGED, "--quick", "--output", str(output)], os.environ, log) as process:
        process.wait(SECONDS * slowness())
    return {result["scenario"]: result | {"log": log} for result in map(json.loads, output.read_text().splitlines())}


@pytest.mark.parametrize("name", JUDGED)
def test_a_small_dose_of_each_scenario_ends_as_it_must(name: str, results: dict[str, Result]) -> None:
    result = results[name]
    if result["good"] is None:
        pytest.skip(str(result["failure"]))
    assert result["good"], f"{result}\n{Path(result['log']).read_text()[-20000:]}"
