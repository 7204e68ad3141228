"""``kiln up`` with nobody at the keyboard: what is killed runs again, what cannot run is said, and the rest serves.

One Kiln for all, with workers that paint noise, on a machine that says it has two GPUs of which one is broken. The
tests stand in the order in which they hurt it; the last ones cannot be mended.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.local.up import Up, alive, environment, running_up, wait_until_gone
from tests.processes import free_port, wait_for

JOBS = 200
SMALL = {"num_inference_steps": 4, "width": 64, "height": 64, "enhance": False}
BROKEN = "worker-2"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("supervised")
    smi = folder / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'\necho 'GPU 1: B (UUID: GPU-2)'\n")
    smi.chmod(0o755)
    settings = {"PATH": f"{smi.parent}{os.pathsep}{os.environ['PATH']}", "LIGHT_BROKEN": "1", "LIGHT_PACE": "0.5,60,5"}
    with running_up(folder, module="tests.local.light", **settings, KILN_LEASE_SECONDS="5") as started:
        started.run_file()
        yield started


def others_run(up: Up) -> bool:
    """Whether all run but the worker that cannot."""
    processes = up.run_file()["processes"]
    return {name for name, process in processes.items() if process["state"] != "running"} <= {BROKEN}


def pids(up: Up) -> dict[str, int]:
    """Of all but the worker that comes and goes, every minute."""
    return {name: pid for name, pid in up.run_file()["pids"].items() if name != BROKEN}


def kill(up: Up, *names: str) -> None:
    """Kill them at once, and wait until others run in their place and run.json says which."""
    before = pids(up)
    for name in names:
        os.kill(before[name], signal.SIGKILL)
    wait_for(
        f"restart of {names}",
        lambda: others_run(up) and all(pids(up).get(name, before[name]) != before[name] for name in names),
        seconds=60,
    )
    after = pids(up)
    assert all(alive(psutil.Process(pid)) for pid in after.values())
    assert {name for name in before if before[name] != after[name]} == set(names)


def submit(up: Up, **body: Any) -> dict[str, Any]:
    answer = httpx2.post(f"{up.run_file()['api']}/v1/jobs", json=SMALL | {"prompt": "a red apple"} | body)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def test_each_gpu_has_its_worker_and_one_that_cannot_start_is_one_line_while_the_other_works(up: Up) -> None:
    run = up.run_file()
    worker = psutil.Process(run["pids"]["worker-1"]).environ()
    assert (worker["CUDA_VISIBLE_DEVICES"], worker["KILN_WORKERS"]) == ("0", "2")
    [line] = [line for line in up.said().splitlines() if BROKEN in line]
    assert "no kernel image is available" in line
    assert "tried again every 60 s" in line
    told = up.told()
    assert (told["state"], told["exit"]) == ("degraded", 1)
    assert told["processes"][BROKEN]["state"] == "waiting"
    job = submit(up)
    wait_for("job", lambda: httpx2.get(f"{run['api']}/v1/jobs/{job['id']}").json()["status"] == "succeeded")


@pytest.mark.parametrize("name", ["redis", "s3", "postgres", "api", "sweeper", "worker-1"])
def test_whatever_is_killed_runs_again_where_it_was(up: Up, name: str) -> None:
    before = up.run_file()
    kill(up, name)
    after = up.run_file()
    places = ("api", "database", "broker", "storage")
    assert {place: after[place] for place in places} == {place: before[place] for place in places}
    lines = [line for line in up.said().splitlines() if f" {name} " in line]
    assert any("ended: killed by SIGKILL | started again in 0.5 s" in line for line in lines), lines
    assert f"{name} runs again" in lines[-1]
    assert up.told()["processes"][name]["ended"] == 1


def test_two_that_are_killed_at_once_run_again(up: Up) -> None:
    kill(up, "postgres", "api")
    kill(up, "s3", "redis")


def test_a_batch_outlives_the_kill_of_its_database(up: Up) -> None:
    api = up.run_file()["api"]
    matrix = {"prompts": ["a red apple", "a green apple"], "seeds_per_prompt": JOBS // 2}
    answer = httpx2.post(f"{api}/v1/batches", json={"name": "night", "defaults": SMALL, "matrix": matrix}, timeout=30)
    assert answer.status_code in (201, 202), answer.text
    batch = f"{api}/v1/batches/{answer.json()['id']}"
    wait_for("tenth of it", lambda: httpx2.get(batch).json()["counts"]["succeeded"] >= JOBS // 10, seconds=60)
    kill(up, "postgres")
    wait_for("all of it", lambda: httpx2.get(batch).json()["counts"]["succeeded"] == JOBS, seconds=120)
    lines = [json.loads(line) for line in httpx2.get(f"{batch}/results", timeout=30).text.splitlines()]
    pictures = [image for job in lines for image in job["images"]]
    assert len({job["id"] for job in lines}) == len(pictures) == JOBS
    for image in pictures[::10]:
        assert hashlib.sha256(httpx2.get(image["url"]).content).hexdigest() == image["sha256"]


def test_a_damaged_database_is_left_alone_and_the_rest_answers(up: Up) -> None:
    run = up.run_file()
    noted = up.home / "postgres.place"
    data = (Path(noted.read_text()) if noted.exists() else up.home / "postgres") / "data"
    for segment in data.glob("pg_wal/0*"):
        segment.unlink()
    os.kill(run["pids"]["postgres"], signal.SIGKILL)
    wait_for("word of it", lambda: "postgres is not started again, for its data is damaged" in up.said())
    assert "checkpoint record" in up.said()
    assert httpx2.get(f"{run['api']}/healthz").status_code == 200
    assert httpx2.post(f"{run['api']}/v1/jobs", json=SMALL | {"prompt": "late"}, timeout=10).status_code == 503
    told = up.told()
    assert (told["exit"], told["processes"]["postgres"]["state"]) == (1, "damaged")
    assert {"api", "sweeper", "worker-1", "redis", "s3"} <= up.run_file()["pids"].keys()


def test_at_the_end_it_tells_what_happened(up: Up) -> None:
    family = up.family()
    assert up.end(signal.SIGTERM) == 65
    wait_until_gone(family)
    assert "postgres ended by itself 5 times" in up.said()
    assert "sweeper ended by itself once, the last time: killed by SIGKILL" in up.said()
    assert up.told() == {"state": "down", "api": None, "processes": {}, "exit": 3}


def kiln(folder: Path, *arguments: str, module: str = "tests.local.light") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def test_one_in_the_background_whose_port_is_taken_works_on_and_is_stopped_by_kiln_down(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port := free_port()))
        taken.listen()
        try:
            begun = kiln(tmp_path, "up", "--detach", "--home", "my home", "--port", str(port))
            assert begun.returncode == 0, begun.stderr
            assert f"api cannot start: port {port} of 127.0.0.1 is taken" in begun.stderr
            run = json.loads((tmp_path / "my home" / "run.json").read_text())
            family = [psutil.Process(pid) for pid in run["pids"].values()]
            assert {"postgres", "redis", "s3", "sweeper", "worker"} <= run["pids"].keys()
            told = kiln(tmp_path, "status", "--home", "my home")
            assert told.returncode == 1
            assert "is taken by another process" in told.stdout
        finally:
            ended = kiln(tmp_path, "down", "--home", "my home")
    assert (ended.returncode, ended.stderr.strip()) == (0, "Stopped.")
    wait_until_gone(family)
    again = kiln(tmp_path, "down", "--home", "my home")
    assert (again.returncode, again.stderr.strip()) == (3, "No Kiln runs in my home.")
