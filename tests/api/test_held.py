"""Requests that stay open: as many as an owner may have, and cheap; and what breaks off, which never looks whole."""

import asyncio
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import psutil
import pytest

from common.jobs import lease
from common.jobs.keys import Scope, create_key
from common.jobs.workers import record_worker
from tests.api.conftest import Api
from tests.api.listen import listening
from tests.jobs.make import PICTURE, claimed
from tests.processes import changed, environment, free_port, running, running_api, slowness, wait_for

CALLS = 200
GENERATIONS = "/v1/images/generations"


@contextmanager
def server(url: str, like: Api) -> Iterator[Api]:
    made = Api(url, like.settings)
    yield made
    made.close()


def test_an_owner_holds_so_many_open_and_whoever_goes_away_makes_room(api: Api, log: Path) -> None:
    with (
        running_api(changed(api.settings, max_open_per_owner=3), log) as url,
        server(url, api) as few,
        ExitStack() as streams,
    ):
        for path in ("/v1/events", "/v1/events"):
            streams.enter_context(listening(few, path))
        with listening(few, "/v1/events"):
            rows = few.rows()
            for refused in (few.get("/v1/events"), few.post(GENERATIONS, json={"prompt": "a"})):
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_open"), refused.text
                assert "3 requests" in refused.json()["detail"]
                assert refused.headers["retry-after"]
            assert few.rows() == rows, "what is refused makes no job"
            job = few.post("/v1/jobs", json={"prompt": "a"}, headers={"Prefer": "wait=60"})  # accepted, and not waited
            assert (job.status_code, job.headers.get("preference-applied")) == (202, None)
        wait_for("room", lambda: few.get("/v1/events?follow=false").status_code == 200)


def test_more_may_be_open_than_a_process_may_have_files_by_default(api: Api, log: Path) -> None:
    port = free_port()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))  # inherited, as from a shell
    try:
        serving = running(["api", "--port", str(port)], environment(api.settings), log)
        process = serving.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with ExitStack() as streams, server(f"http://127.0.0.1:{port}", api) as kiln:
        streams.push(serving)
        wait_for("API", lambda: kiln.get("/healthz").status_code == 200, seconds=90)
        for _ in range(90):
            streams.enter_context(listening(kiln, "/v1/events"))
        assert kiln.get("/healthz").status_code == 200
        assert process.poll() is None


def test_calls_that_wait_cost_next_to_nothing_and_are_all_answered(api: Api, log: Path) -> None:
    port = free_port()
    with running(["api", "--port", str(port)], environment(api.settings), log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for("API", lambda: httpx2.get(f"{url}/healthz").status_code == 200, seconds=90)
        spent, health, answered = asyncio.run(hold(url, api, psutil.Process(process.pid)))
    assert spent < 0.1, "of a core"
    assert health < 0.2 * slowness()
    assert answered == {409}  # canceled while they waited


async def hold(url: str, api: Api, process: psutil.Process) -> tuple[float, float, set[int]]:
    """The share of a core that the API takes while CALLS wait, its slowest /healthz, and what they are answered."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)  # idle ones the server may just close
    async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        waiting = [asyncio.ensure_future(client.post(GENERATIONS, json={"prompt": f"{n}"})) for n in range(CALLS)]
        while await asyncio.to_thread(api.rows) < CALLS:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)  # until the last of them waits, too
        began, before, slowest = time.monotonic(), sum(process.cpu_times()[:2]), 0.0
        for _ in range(5):
            asked = time.monotonic()
            (await client.get("/healthz")).raise_for_status()
            slowest = max(slowest, time.monotonic() - asked)
            await asyncio.sleep(1)
        spent = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
        page = (await client.get("/v1/jobs?limit=100&status=queued")).json()["data"]
        while page:
            await asyncio.gather(*(client.post(f"/v1/jobs/{job['id']}/cancel") for job in page))
            page = (await client.get("/v1/jobs?limit=100&status=queued")).json()["data"]
        answers = await asyncio.gather(*waiting)
        return spent, slowest, {answer.status_code for answer in answers}


def test_the_wait_that_is_applied_is_the_one_that_is_told(api: Api) -> None:
    def cancel() -> None:
        wait_for("job", lambda: api.rows() == 1)
        job = httpx2.get(f"{api.base_url}/v1/jobs").json()["data"][0]["id"]
        httpx2.post(f"{api.base_url}/v1/jobs/{job}/cancel").raise_for_status()

    helper = threading.Thread(target=cancel)
    helper.start()
    answer = api.post("/v1/jobs", json={"prompt": "a"}, headers={"Prefer": "wait=9999"})
    helper.join()
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert answer.headers["preference-applied"] == "wait=60"


@pytest.mark.parametrize("path", ["archive", "report"])
def test_a_picture_that_the_store_lost_breaks_the_download_off(api: Api, path: str) -> None:
    batch = api.post("/v1/batches", json={"matrix": {"prompts": ["a cat", "a dog"]}}).json()["id"]
    keys = []
    for _ in range(2):
        claim = claimed(api.engine)
        key = f"images/{claim.job_id}/1/0.png"
        api.objects.put(key, b"png", "image/png")
        lease.succeed(api.engine, claim, [replace(PICTURE, key=key, thumbnail_key=key)], recipe={}, timings={})
        keys.append(key)
    assert api.get(f"/v1/batches/{batch}/{path}").content
    api.objects.delete(keys[1:])
    with pytest.raises(httpx2.RemoteProtocolError):
        api.get(f"/v1/batches/{batch}/{path}")


def test_readiness_tells_strangers_nothing_of_workers_once_there_are_keys(api: Api, log: Path) -> None:
    """The last one: keys that were made once are asked for from then on."""
    facts = {"models": ["demo"], "device": "cpu", "seats": 1, "figures": {}}
    record_worker(api.engine, "w1", state="failed", detail="no weights in /srv/models", **facts)  # type: ignore[arg-type]
    with running_api(api.settings, log) as url:
        assert httpx2.get(f"{url}/readyz").json()["workers"]["failed"] == ["no weights in /srv/models"]
    key, _ = create_key(api.engine, "ann", [Scope.READ])
    with running_api(api.settings, log) as url:
        told = httpx2.get(f"{url}/readyz", headers={"Authorization": f"Bearer {key}"}).json()["workers"]
        assert told["failed"] == ["no weights in /srv/models"]
        stranger = httpx2.get(f"{url}/readyz").json()
    assert stranger["workers"] == {"states": told["states"]}
    assert all(check["ok"] for check in stranger["checks"].values())
