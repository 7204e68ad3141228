"""``kiln up`` and ``kiln demo`` from start to end: nothing of theirs is lost, and nothing of theirs stays."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import psutil

from common.local.children import Child, start
from common.models import BUILT_IN
from tests.local.up import environment, finished, running_up, wait_until_gone
from tests.processes import wait_for

JOB = {"prompt": "a red apple", "num_inference_steps": 2, "width": 64, "height": 64, "enhance": False}

# As a person has one who also runs docker compose here
DOTENV = """
KILN_DATABASE_URL=postgresql://kiln:other@127.0.0.1:1/other
KILN_BROKER_URL=redis://127.0.0.1:1/0
KILN_S3_PUBLIC_URL=http://127.0.0.1:1
KILN_S3_BUCKET=yesterday
"""


def picture(api: str, job_id: str, headers: dict[str, str]) -> str:
    """The sha256 of the job's picture, fetched as a client fetches it."""
    [image] = finished(api, job_id, headers)["images"]
    found = hashlib.sha256(httpx2.get(image["url"]).content).hexdigest()
    assert found == image["sha256"]
    return found


def first_key(folder: Path) -> dict[str, str]:
    """The header that carries a key of whoever called without one, made while Kiln runs in ``folder``."""
    command = [sys.executable, "-m", "client", "keys", "create", "local"]
    made = subprocess.run(
        command, cwd=folder, env=environment(KILN_HOME="home"), check=True, capture_output=True, text=True
    )
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


def test_jobs_and_pictures_outlive_ctrl_c_and_a_kill_and_no_process_does(tmp_path: Path) -> None:
    folder = tmp_path / "my pictures"
    folder.mkdir()
    (folder / ".env").write_text(DOTENV)
    with running_up(folder) as up:
        run = up.run_file()
        assert run["storage"]["bucket"] == "yesterday"
        job_id = httpx2.post(f"{run['api']}/v1/jobs", json=JOB).json()["id"]
        first = picture(run["api"], job_id, {})
        key = first_key(folder)
        family = up.family()
        assert set(run["pids"].values()) <= {one.pid for one in family}
        assert up.end(signal.SIGINT) == 0, up.said()
        wait_until_gone(family)
        assert not (up.home / "run.json").exists()
    with running_up(folder) as up:
        assert picture(up.run_file()["api"], job_id, key) == first
        os.kill(up.run_file()["pids"]["redis"], signal.SIGKILL)
        wait_for("another broker", lambda: "redis runs again" in up.said())
        orphans = up.family()
        up.process.kill()
        up.process.wait()
    with running_up(folder, "--workers", "2") as up:
        run = up.run_file()
        wait_until_gone(orphans)
        assert picture(run["api"], job_id, key) == first
        family = up.family()
        psutil.Process(run["pids"]["worker-2"]).kill()
        wait_for("a word of it", lambda: "worker-2 ended: killed by SIGKILL" in up.said())
        assert up.end(signal.SIGTERM) == 5, up.said()  # it is not ready again yet
        wait_until_gone(family)


def test_a_start_that_is_interrupted_leaves_no_process(tmp_path: Path) -> None:
    with running_up(tmp_path) as up:
        wait_for("first child", lambda: len(up.family()) > 3, seconds=20)
        family = up.family()
        assert up.end(signal.SIGTERM) == 0, up.said()
        wait_until_gone(family)


def broken_model() -> dict[str, str]:
    entry = BUILT_IN["demo"].model_dump(mode="json") | {"vae": {"source": "/nowhere"}}
    return {"KILN_MODEL": "broken", "KILN_MODELS": json.dumps({"broken": entry})}


def test_a_model_that_cannot_be_loaded_is_one_line_and_the_api_serves(tmp_path: Path) -> None:
    with running_up(tmp_path, **broken_model()) as up:
        run = up.run_file()
        [line] = [line for line in up.said().splitlines() if "worker cannot start" in line]
        assert "/nowhere" in line
        assert "tried again every 60 s" in line
        assert "Traceback" not in up.said()
        assert httpx2.post(f"{run['api']}/v1/jobs", json=JOB | {"model": "demo"}).status_code == 202
        told = up.told()
        assert (told["state"], told["exit"], told["processes"]["worker"]["state"]) == ("degraded", 1, "waiting")
        assert up.end(signal.SIGINT) == 5, up.said()


def test_a_demo_whose_model_cannot_be_loaded_says_so_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "client", "demo", "--home", "home"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment(**broken_model()), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "/nowhere" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_demo_leaves_a_picture_and_no_process(tmp_path: Path) -> None:
    log = (tmp_path / "said").open("wb")
    command = [sys.executable, "-m", "client", "demo", "--home", "home"]
    with log, subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=log, stderr=log) as demo:
        wait_for("first child", lambda: len(psutil.Process(demo.pid).children()) > 3, seconds=20)
        wait_for("API", lambda: "Painting" in (tmp_path / "said").read_text(), seconds=60)
        family = psutil.Process(demo.pid).children(recursive=True)
        assert demo.wait(timeout=90) == 0, (tmp_path / "said").read_text()
    wait_until_gone(family)
    assert (tmp_path / "kiln-demo-0.png").read_bytes().startswith(b"\x89PNG")


def test_a_log_s_tail_is_that_of_this_run(tmp_path: Path) -> None:
    def said(word: str) -> Child:
        child = start(tmp_path, "speaker", [sys.executable, "-c", f"print('{word}')"])
        child.process.wait()
        return child

    assert said("yesterday").tail() == "    yesterday"
    assert said("today").tail() == "    today"
