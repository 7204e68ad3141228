"""OpenMP's teams: the device's alone, for as soon as others compute in parallel, all of them sleep at every barrier."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.local.services import Services

ROOT = Path(__file__).parents[2]

# Threads that are not Python's: those of OpenMP, and none of NumPy's
COUNT = """
import json, os, threading
from pathlib import Path
import torch
from common.settings import Settings, read_settings
from worker.workshop import load_models, open_workshop

def others():
    return len(list(Path("/proc/self/task").iterdir())) - threading.active_count()

workshop = open_workshop(read_settings(Settings))
before = others()
load_models(workshop)
square = torch.ones(1000, 1000)
square @ square
workshop.device.run(lambda: square @ square)
print(json.dumps([others() - before, torch.get_num_threads(), workshop.device.run(torch.get_num_threads)]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux shows them")
def test_the_device_alone_computes_in_parallel(services: Services) -> None:
    given = services.environment() | {"KILN_MODEL": "demo", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", COUNT], env=given, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == [1, 1, 2], "OpenMP's threads, those of others, the device's"
