"""The plain diffusers loop: says "ready", then for each line on stdin paints its jobs and says how long it took.

``python -m bench.plain FOLDER MODEL``; a line is a JSON array of job specs.
"""

import json
import sys
import time
from pathlib import Path

from bench.pipeline import open_studio
from common.jobs.spec import JobSpec
from common.telemetry import configure_logging


def main() -> None:
    configure_logging("warning", "console")  # stdout is for the answers
    folder, model = Path(sys.argv[1]), sys.argv[2]
    picture = open_studio(model, folder)
    print("ready", flush=True)  # noqa: T201 - this process speaks through its pipe
    for line in sys.stdin:
        specs = [JobSpec.from_json(spec) for spec in json.loads(line)]
        began = time.perf_counter()
        for spec in specs:
            picture(spec).save(folder / "plain.png")
        print(time.perf_counter() - began, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
