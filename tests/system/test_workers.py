"""Workers that must help themselves: one whose broker never rings, and one that cannot store what it paints."""

from pathlib import Path

import httpx2
from pydantic import SecretStr

from tests.deployment import Kiln
from tests.processes import changed, free_port, running_api, wait_for

QUICK = {"num_inference_steps": 2, "width": 64, "height": 64}
LONG = {"num_inference_steps": 500, "num_images": 8}


def test_a_worker_whose_broker_never_rings_finds_jobs_within_15_seconds_and_still_parks_them(
    kiln: Kiln, tmp_path: Path, database_url: str
) -> None:
    nobody = SecretStr(f"redis://:pass@127.0.0.1:{free_port()}/0")
    settings = changed(kiln.settings, broker_url=nobody, database_url=SecretStr(database_url))
    with running_api(settings, log=tmp_path / "api.log") as url:
        deaf = Kiln(url, settings, tmp_path)
        with deaf.worker() as worker:
            long, quick = deaf.post(**LONG)["id"], deaf.post(**QUICK)["id"]
            # in its own seat: the first that looks has the long one
            assert deaf.finished(quick, seconds=15 + 5)["status"] == "succeeded"
            deaf.wait(long, lambda job: job["status"] == "running" and job["progress"]["done"] > 0)
            worker.terminate()
            assert worker.wait(timeout=10) == 0, deaf.tails()
            assert deaf.job(long)["status"] == "queued"


def test_a_worker_that_cannot_store_says_so_and_takes_no_more_jobs(
    kiln: Kiln, tmp_path: Path, database_url: str
) -> None:
    settings = changed(kiln.settings, database_url=SecretStr(database_url))
    with running_api(settings, log=tmp_path / "api.log") as url:
        locked_out = Kiln(url, settings, tmp_path)
        with locked_out.worker(s3_secret_key=SecretStr("not the key")):
            jobs = [locked_out.post(**QUICK)["id"] for _ in range(12)]
            wait_for("unready worker", lambda: _entry(url)["state"] == "unready", seconds=60)
            assert "the latest with storage_unavailable" in _entry(url)["detail"]
            assert httpx2.get(f"{url}/readyz").json()["workers"]["failed"] == [_entry(url)["detail"]]
            assert "nothing is claimed" in (tmp_path / "worker.log").read_text()
            attempts = [locked_out.job(job)["attempt"] for job in jobs]
            assert 4 <= sum(attempts) <= 4 + 2, "no more than were in hand"


def _entry(url: str) -> dict[str, str]:
    [worker] = httpx2.get(f"{url}/v1/workers").json()["data"]
    return {name: worker[name] for name in ("state", "detail")}
