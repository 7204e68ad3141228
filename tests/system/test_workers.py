"""Workers that must help themselves: one whose broker never rings, and one that cannot store what it paints."""

from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from pydantic import SecretStr

from tests.deployment import Kiln, running_kiln
from tests.processes import changed, free_port, running_api, wait_for
from tests.proxy import proxied

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


def test_a_worker_that_cannot_store_says_so_takes_no_more_jobs_and_gives_back_what_it_has(
    kiln: Kiln, tmp_path: Path, database_url: str
) -> None:
    settings = changed(kiln.settings, database_url=SecretStr(database_url))
    with running_kiln(settings, tmp_path) as cut_off:
        with cut_off.worker("locked-out", s3_secret_key=SecretStr("not the key")) as worker:
            jobs = [cut_off.post(**QUICK)["id"] for _ in range(12)]
            wait_for("unready worker", lambda: _entry(cut_off.url)["state"] == "unready", seconds=60)
            assert "seats wait for it with their pictures" in _entry(cut_off.url)["detail"]
            assert httpx2.get(f"{cut_off.url}/readyz").json()["workers"]["failed"] == [_entry(cut_off.url)["detail"]]
            assert sum(cut_off.job(job)["attempt"] for job in jobs) <= 3, "no more than were in hand"
            worker.terminate()
            assert worker.wait(timeout=10) == 0, cut_off.tails()
        assert {cut_off.job(job)["status"] for job in jobs} == {"queued"}


def test_pictures_wait_for_a_store_that_is_away_and_are_stored_when_it_is_back(
    kiln: Kiln, tmp_path: Path, database_url: str
) -> None:
    """A night lost to an hour's outage: jobs that failed though their pictures were painted."""
    store = urlsplit(kiln.settings.s3_endpoint_url)
    with proxied(str(store.hostname), store.port or 80) as proxy:
        settings = changed(
            kiln.settings, database_url=SecretStr(database_url), s3_endpoint_url=f"http://127.0.0.1:{proxy.port}"
        )
        with running_kiln(settings, tmp_path) as cut_off, cut_off.worker():
            proxy.become("refuse")
            jobs = [cut_off.post(**QUICK)["id"] for _ in range(6)]
            wait_for("unready worker", lambda: _entry(cut_off.url)["state"] == "unready", seconds=60)
            proxy.become("pass")
            for job in jobs:
                done = cut_off.finished(job)
                assert (done["status"], done["attempt"]) == ("succeeded", 1), cut_off.tails()


def _entry(url: str) -> dict[str, str]:
    [worker] = httpx2.get(f"{url}/v1/workers").json()["data"]
    return {name: worker[name] for name in ("state", "detail")}
