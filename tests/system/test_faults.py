"""Workers killed, stopped, frozen; the broker away: no accepted job is lost, none ends twice."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from pydantic import SecretStr

from common.local.redis import start_redis, wait_for_redis
from common.models import PARTS
from common.settings import Settings
from tests.deployment import Kiln
from tests.processes import changed, environment, free_port, running, running_api, wait_for

LONG = {"num_inference_steps": 400, "width": 64, "height": 64}  # seconds: time to kill its worker


@contextmanager
def broker(home: Path, port: int) -> Iterator[None]:
    """A broker of the test's own, which may come and go."""
    server = start_redis(home, port=port, password="pass")
    try:
        wait_for_redis(server, port, "pass")
        yield
    finally:
        server.stop()


def test_a_killed_workers_job_is_done_by_another(kiln: Kiln) -> None:
    with kiln.worker("killed") as doomed:
        job_id = kiln.post(**LONG)["id"]
        kiln.wait(job_id, lambda job: job["progress"]["done"] > 0)
        doomed.kill()
        doomed.wait()
    with kiln.worker("heir"):
        job = kiln.finished(job_id, seconds=90)
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    assert "/2/0." in job["images"][0]["url"]


def test_a_worker_told_to_stop_parks_its_job_and_exits_within_seconds(kiln: Kiln) -> None:
    with kiln.worker("parking") as worker:
        job_id = kiln.post(**LONG)["id"]
        kiln.wait(job_id, lambda job: job["progress"]["done"] > 0)
        worker.terminate()
        assert worker.wait(timeout=5) == 0, kiln.tails()
        assert kiln.job(job_id)["status"] == "queued"
    with kiln.worker("second"):
        job = kiln.finished(job_id, seconds=90)
    assert (job["status"], job["attempt"]) == ("succeeded", 2)


def test_a_worker_that_froze_longer_than_its_lease_writes_nothing(kiln: Kiln) -> None:
    with kiln.worker("frozen") as frozen:
        job_id = kiln.post(**LONG)["id"]
        kiln.wait(job_id, lambda job: job["progress"]["done"] > 0)
        frozen.send_signal(signal.SIGSTOP)
        kiln.wait(job_id, lambda job: job["status"] == "queued", seconds=20)
        with kiln.worker("fresh") as fresh:
            kiln.wait(job_id, lambda job: job["attempt"] == 2 and job["progress"]["done"] > 0)
            frozen.send_signal(signal.SIGCONT)
            wait_for("refusal", lambda: "lease lost" in (kiln.logs / "frozen.log").read_text())
            assert kiln.job(job_id)["timings"]["worker"].split(":")[1] == str(fresh.pid)
            assert kiln.finished(job_id, seconds=90)["attempt"] == 2


def with_broker(kiln: Kiln, port: int, database_url: str) -> Settings:
    """A broker that comes and goes, and a database that no other test's sweeper looks after."""
    url = SecretStr(f"redis://:pass@127.0.0.1:{port}/0")
    return changed(kiln.settings, broker_url=url, database_url=SecretStr(database_url))


def test_a_job_posted_while_the_broker_is_away_runs_when_it_is_back(
    kiln: Kiln, tmp_path: Path, database_url: str
) -> None:
    port = free_port()
    settings = with_broker(kiln, port, database_url)
    with running_api(settings, log=kiln.logs / "lonely-api.log") as api:
        lonely = Kiln(api, settings, kiln.logs)
        job_id = lonely.post(num_inference_steps=2)["id"]
        assert lonely.job(job_id)["status"] == "queued"
        variables = environment(settings)
        with (
            broker(tmp_path, port),
            running(["worker.sweeper"], variables, kiln.logs / "lonely-sweeper.log"),
            lonely.worker("lonely"),
        ):
            assert lonely.finished(job_id, seconds=20)["status"] == "succeeded"


def test_a_worker_survives_a_restart_of_the_broker(kiln: Kiln, tmp_path: Path, database_url: str) -> None:
    port = free_port()
    settings = with_broker(kiln, port, database_url)
    with running_api(settings, log=kiln.logs / "restart-api.log") as api:
        restarted = Kiln(api, settings, kiln.logs)
        with running(["worker.sweeper"], environment(settings), kiln.logs / "restart-sweeper.log"):
            with broker(tmp_path, port):
                worker = restarted.worker("restart")
                worker.__enter__()
                assert restarted.finished(restarted.post(num_inference_steps=2)["id"])["status"] == "succeeded"
            try:
                waiting = restarted.post(num_inference_steps=2)["id"]
                with broker(tmp_path, port):
                    assert restarted.finished(waiting, seconds=40)["status"] == "succeeded"
            finally:
                worker.__exit__(None, None, None)


def test_a_worker_whose_model_cannot_be_loaded_says_why_in_one_line_and_readiness_too(kiln: Kiln) -> None:
    broken = {"broken": {part: {"source": "/nowhere/at/all"} for part in PARTS}}
    variables = environment(kiln.settings) | {"KILN_MODELS": json.dumps(broken), "KILN_MODEL": "broken"}
    ended = subprocess.run(
        [sys.executable, "-m", "worker"], env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "vae" in ended.stderr
    assert "/nowhere/at/all" in ended.stderr
    told = httpx2.get(f"{kiln.url}/readyz").json()["workers"]["failed"]
    assert any("/nowhere/at/all" in line for line in told)
