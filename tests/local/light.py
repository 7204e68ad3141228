"""``python -m tests.local.light``: the `kiln` command; the workers that it starts paint noise, in milliseconds.

LIGHT_PACE, three seconds separated by commas, is for how its processes are started again; see Pace. The worker of the
GPU that LIGHT_BROKEN numbers cannot start.
"""

import os
import sys

from client.main import app
from common.local import apps, supervisor


def command() -> None:
    apps.WORKER = __spec__.name
    if pace := os.environ.get("LIGHT_PACE"):
        supervisor.PACE = supervisor.Pace(*map(float, pace.split(",")))
    app()


def main() -> None:
    """The worker: early.py imports this module by its name, and calls this."""
    from tests.chaos import painter

    if os.environ.get("CUDA_VISIBLE_DEVICES") == os.environ.get("LIGHT_BROKEN", "none"):
        sys.exit("no kernel image is available for execution on the device")
    painter.main()


if __name__ == "__main__":
    command()
