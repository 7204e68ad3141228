"""OpenMP's teams: the device's alone, for as soon as others compute in parallel, all of them sleep at every barrier.

And no larger than this worker's part of the cores: of more threads than cores, those that run spin for the others.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.local.services import Services
from worker.hardware import usable_cores

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


HERE = usable_cores()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux shows them")
@pytest.mark.parametrize(
    ("given", "threads"),
    [({"OMP_NUM_THREADS": "2", "KILN_WORKERS": "64"}, 2), ({"KILN_WORKERS": str(HERE)}, 1)],
    ids=["as many as asked for", "its part of the cores"],
)
def test_the_device_alone_computes_in_parallel(services: Services, given: dict[str, str], threads: int) -> None:
    ambient = services.environment() | {"KILN_MODEL": "demo", "OPENBLAS_NUM_THREADS": "1"}
    ambient.pop("OMP_NUM_THREADS", None)
    ended = subprocess.run(
        [sys.executable, "-c", COUNT], env=ambient | given, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found == [threads - 1, 1, threads], "OpenMP's threads, those of others, the device's"


@pytest.mark.parametrize(
    ("membership", "limits", "cores"),
    [
        ("0::/\n", {}, HERE),
        ("0::/\n", {"cpu.max": "max 100000\n"}, HERE),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),  # a container of version 2
        ("0::/system.slice/kiln.service\n", {"system.slice/cpu.max": "150000 100000\n"}, 1),  # CPUQuota= of a slice
        ("0::/a\n", {"a/cpu.max": "max 100000\n", "cpu.max": "20000 100000\n"}, 1),  # less than one is one
        ("5:memory:/b\n4:cpu,cpuacct:/b\n", {"cpu,cpuacct/b/cpu.cfs_quota_us": "100000\n"}, 1),
        ("4:cpu,cpuacct:/docker/cafe\n", {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n"}, 1),  # the host's path
        ("4:cpu,cpuacct:/b\n", {"cpu,cpuacct/b/cpu.cfs_quota_us": "-1\n"}, HERE),
        ("4:memory:/b\n", {"memory/b/cpu.max": "100000 100000\n"}, HERE),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, HERE),  # more than there are
    ],
)
def test_cores_are_those_that_the_control_groups_leave(
    tmp_path: Path, membership: str, limits: dict[str, str], cores: int
) -> None:
    files = {f"sys/fs/cgroup/{name}": text for name, text in limits.items()} | {"proc/self/cgroup": membership}
    files |= {name.replace("quota", "period"): "100000\n" for name in files if "quota" in name}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone lets a process choose its cores")
def test_a_process_that_is_held_to_one_core_has_one() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from worker.hardware import usable_cores; print(usable_cores())"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "1"
