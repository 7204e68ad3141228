"""``python -m tests.mutants``: two files, changed in every way mutmut knows; exit code 1 where a tenth goes unseen.

Starts the servers once for all mutants, and leaves its results in mutants/, from where a next run goes on.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich import print_json

from common.local.services import running_services

LEAST = 0.9  # of the mutants have to be seen by a test
RESULTS = Path("mutants/mutmut-cicd-stats.json")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with running_services(home, durable=False) as services:
            given = {"KILN_TEST_SERVICES": json.dumps(asdict(services)), "OMP_NUM_THREADS": "1"}
            mutmut("run", "--max-children", "2", **given)
        if (noted := home / "postgres.place").exists():  # as root the database lay elsewhere
            shutil.rmtree(noted.read_text())
    mutmut("results")
    mutmut("export-cicd-stats")
    counts = json.loads(RESULTS.read_text())
    seen = (counts["killed"] + counts["timeout"]) / counts["total"]
    print_json(data=counts | {"seen": round(seen, 3), "good": seen >= LEAST})
    sys.exit(seen < LEAST)


def mutmut(*arguments: str, **variables: str) -> None:
    subprocess.run([sys.executable, "-m", "mutmut", *arguments], env=os.environ | variables, check=True)


if __name__ == "__main__":
    main()
