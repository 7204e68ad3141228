"""Streams of events: what becomes of jobs, once each and in order, to their owners alone, and without connections."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import text

from common.db import reading
from common.ids import parse_id
from common.jobs import lease
from common.jobs.keys import Scope, create_key
from common.live import channel
from common.settings import Settings
from tests.api.conftest import Api
from tests.api.listen import heard, listening
from tests.jobs.make import PICTURE, claimed
from tests.processes import changed, environment, free_port, running, running_api, wait_for
from tests.proxy import proxied

STATES = ("queued", "running", "succeeded")


def test_a_job_is_followed_from_its_first_event_to_its_picture_and_its_end(api: Api) -> None:
    job = api.post("/v1/jobs", json={"prompt": "a red apple"}).json()
    with listening(api, f"/v1/jobs/{job['id']}/events") as listener:
        assert listener.next().event == "queued"
        claim = claimed(api.engine)
        assert listener.next().event == "running"
        lease.succeed(api.engine, claim, [PICTURE], recipe={}, timings={})
        image, end = list(listener.frames())

    assert job["urls"]["events"] == f"{api.base_url}/v1/jobs/{job['id']}/events"
    assert (image.event, image.id, end.event) == ("image", None, "succeeded")
    shown = api.get(f"/v1/jobs/{job['id']}").json()
    signed = ("url", "thumbnail_url", "expires_at")  # another every second
    assert {**image.data["image"], **dict.fromkeys(signed)} == {**shown["images"][0], **dict.fromkeys(signed)}
    assert image.data["image"]["url"].startswith("http")
    assert end.data.keys() == {"job_id", "batch_id", "status", "attempt", "at"}
    assert (end.data["job_id"], end.data["batch_id"], end.data["attempt"]) == (job["id"], None, 1)
    assert end.data["at"].endswith("Z")


def test_a_stream_goes_on_behind_the_last_event_also_of_a_job_that_is_over(api: Api) -> None:
    path = f"/v1/jobs/{finished(api)}/events"
    whole = heard(api, path)
    assert [frame.event for frame in whole] == ["queued", "running", "image", "succeeded"]
    for place, frame in enumerate(whole):
        if frame.id:
            with listening(api, path, last_event_id=frame.id) as listener:
                rest = list(listener.frames())
            for told in (rest, heard(api, path, frame.id)):
                assert [(each.id, each.event) for each in told] == [(e.id, e.event) for e in whole[place + 1 :]]


def test_a_stream_of_all_begins_now_and_tells_each_event_once(api: Api) -> None:
    finished(api)
    with listening(api, "/v1/events") as listener:
        job = finished(api)
        told = [listener.next() for _ in range(4)]
    assert {frame.data["job_id"] for frame in told} == {job}
    assert [frame.event for frame in told] == ["queued", "running", "image", "succeeded"]
    ids = [frame.id for frame in told if frame.id]
    assert ids == sorted(set(ids))
    assert [frame.id for frame in heard(api, "/v1/events", ids[0]) if frame.id] == ids[1:]
    assert heard(api, "/v1/events") == []


def test_a_batchs_stream_ends_when_all_its_jobs_are_over(api: Api) -> None:
    made = api.post("/v1/batches", json={"matrix": {"prompts": ["a cat", "a dog", "a hen"]}}).json()
    path = f"/v1/batches/{made['id']}/events"
    assert made["urls"]["events"].endswith(path)
    with listening(api, path) as listener:
        other = api.post("/v1/jobs", json={"prompt": "not of the batch", "priority": 1}).json()["id"]
        api.post(f"/v1/jobs/{other}/cancel")
        for _ in range(2):
            lease.succeed(api.engine, claimed(api.engine), [PICTURE], recipe={}, timings={})
        api.post(f"/v1/batches/{made['id']}/cancel")
        told = list(listener.frames())
    assert {frame.data["batch_id"] for frame in told} == {made["id"]}
    ends = [frame.event for frame in told if frame.id and frame.event != "running"]
    assert ends == ["succeeded", "succeeded", "canceled"]
    with listening(api, path) as listener:
        assert list(listener.frames()) == []


def test_an_event_that_is_committed_late_is_told_in_its_place(api: Api) -> None:
    first, second = (api.post("/v1/jobs", json={"prompt": "a"}).json()["id"] for _ in range(2))
    with (
        listening(api, "/v1/events") as listener,
        psycopg.connect(api.settings.database_url.get_secret_value()) as slow,
    ):
        cancel = "UPDATE jobs SET status = 'canceled', finished_at = clock_timestamp() WHERE id = %s"
        slow.execute(cancel, (parse_id("job", first),))
        api.post(f"/v1/jobs/{second}/cancel")  # its event has a higher id, and is there before
        with listening(api, f"/v1/jobs/{second}/events") as other:
            assert other.until("canceled").data["job_id"] == second
        assert heard(api, "/v1/events", 0)[-1].event == "queued"
        slow.commit()
        told = [listener.next() for _ in range(2)]
    assert [frame.data["job_id"] for frame in told] == [first, second]


def test_a_stream_that_begins_while_somebody_writes_is_told_of_that(api: Api) -> None:
    first, second = (api.post("/v1/jobs", json={"prompt": "a"}).json()["id"] for _ in range(2))
    with psycopg.connect(api.settings.database_url.get_secret_value()) as slow:
        cancel = "UPDATE jobs SET status = 'canceled', finished_at = clock_timestamp() WHERE id = %s"
        slow.execute(cancel, (parse_id("job", first),))
        api.post(f"/v1/jobs/{second}/cancel")  # its event has a higher id, and is there before
        with listening(api, "/v1/events") as listener:
            slow.commit()
            told = listener.until("canceled")
    assert told.data["job_id"] == first


def test_nothing_is_lost_or_told_twice_over_restarts_of_the_api(api: Api, tmp_path: Path) -> None:
    stop = threading.Event()
    jobs = [finished(api)]
    told = [frame for frame in heard(api, "/v1/events", 0) if frame.id]

    def work() -> None:
        while not stop.wait(0.01):
            jobs.append(finished(api))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(2):
            with (
                running_api(api.settings, tmp_path / "api.log") as url,
                server(url, api.settings) as restarted,
                listening(restarted, "/v1/events", told[-1].id) as listener,
            ):
                seen = len(told)
                while len(told) < seen + 20:
                    told += [frame for frame in [listener.next()] if frame.id]
    finally:
        stop.set()
        worker.join()
    told += [frame for frame in heard(api, "/v1/events", told[-1].id) if frame.id]
    ids = [frame.id or 0 for frame in told]
    assert ids == sorted(set(ids))
    assert [(frame.data["job_id"], frame.event) for frame in told] == [(job, state) for job in jobs for state in STATES]


def test_the_api_stops_at_once_though_streams_are_open(api: Api, log: Path) -> None:
    job = api.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    port = free_port()
    with running(["api", "--port", str(port)], environment(api.settings), log) as process:
        wait_for("API", lambda: httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200, seconds=120)
        with (
            server(f"http://127.0.0.1:{port}", api.settings) as stopping,
            listening(stopping, f"/v1/jobs/{job}/events") as one,
            listening(stopping, "/v1/events") as other,
        ):
            assert one.next().event == "queued"
            process.terminate()
            began = time.monotonic()
            assert [list(one.frames()), list(other.frames())] == [[], []]  # they end in good order
            process.wait(timeout=20)
            assert time.monotonic() - began < 4
    assert "Traceback" not in log.read_text()


def test_open_streams_cost_no_connection_and_all_are_told_the_end(api: Api) -> None:
    job = api.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    path = f"/v1/jobs/{job}/events"

    async def listen(count: int) -> None:
        streams = []
        for number in range(count):
            reader, writer = await asyncio.open_connection(*httpx2.URL(api.base_url).netloc.decode().split(":"))
            writer.write(f"GET {path if number % 2 else '/v1/events'} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            await reader.readuntil(b"event: queued" if number % 2 else b"\r\n\r\n")
            streams.append((reader, writer))
            if number == 10:
                few = await asyncio.to_thread(connections, api)
        assert await asyncio.to_thread(connections, api) <= few
        lease.succeed(api.engine, claimed(api.engine), [PICTURE], recipe={}, timings={})
        await asyncio.wait_for(
            asyncio.gather(*(reader.readuntil(b"event: succeeded") for reader, _ in streams)), timeout=60
        )
        assert await asyncio.to_thread(connections, api) <= few
        for _, writer in streams:
            writer.close()

    asyncio.run(listen(500))


def test_what_workers_tell_reaches_the_jobs_owner_between_its_changes(api: Api) -> None:
    job = api.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    with listening(api, f"/v1/jobs/{job}/events") as listener:
        assert listener.next().event == "queued"
        claim = claimed(api.engine)
        say(api, "stage", job, stage="diffuse")
        assert [listener.next().event, listener.next().event] == ["running", "stage"]
        for forged in ("{", "[]", '{"event": "succeeded", "data": {}}', '{"event": "progress", "data": {"job_id": 3}}'):
            publish(api, forged)
        say(api, "succeeded", job)
        say(api, "progress", f"job_{'0' * 32}", progress={})
        say(api, "progress", job, progress={"done": 1, "total": 4, "percent": 25.0})
        frame = listener.next()
        assert (frame.event, frame.id) == ("progress", None)
        assert frame.data == {"job_id": job, "batch_id": None, "progress": {"done": 1, "total": 4, "percent": 25.0}}
        lease.succeed(api.engine, claim, [PICTURE], recipe={}, timings={})
        say(api, "settled", job)
        assert [frame.event for frame in listener.frames()] == ["image", "succeeded"]


@pytest.mark.parametrize("mode", ["refuse", "swallow"])
def test_without_the_broker_all_changes_are_told_all_the_same(api: Api, log: Path, mode: Any) -> None:
    broker = httpx2.URL(api.settings.broker_url.get_secret_value())
    with proxied(str(broker.host), int(broker.port or 6379)) as proxy:
        proxy.become(mode)
        url = SecretStr(str(broker.copy_with(port=proxy.port)))
        with (
            running_api(changed(api.settings, broker_url=url), log) as base_url,
            server(base_url, api.settings) as lonely,
            listening(lonely, "/v1/events") as listener,
        ):
            job = finished(api)
            told = [listener.next() for _ in range(4)]
    assert {frame.data["job_id"] for frame in told} == {job}
    assert told[-1].event == "succeeded"


def test_a_bad_place_is_refused_by_name(api: Api) -> None:
    for query in ("last_event_id=-1", "last_event_id=x", f"last_event_id={2**63}", "follow=perhaps"):
        refused = api.get(f"/v1/events?{query}")
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"
    refused = api.get("/v1/events", headers={"Last-Event-ID": "x"})
    assert refused.json()["errors"][0]["pointer"] == "/Last-Event-ID"


def test_nobody_hears_of_another_owners_jobs(api: Api, tmp_path: Path) -> None:
    """The last one: keys that were made once are asked for from then on."""
    with (
        running_api(api.settings, tmp_path / "api.log") as url,
        server(url, api.settings, "annabel") as ann,
        server(url, api.settings, "bob") as bob,
    ):
        batch = ann.post("/v1/batches", json={"matrix": {"prompts": ["annabel's words"]}}).json()["id"]
        job = ann.get(f"/v1/jobs?batch_id={batch}").json()["data"][0]["id"]
        own = bob.post("/v1/jobs", json={"prompt": "bob's", "not_before": "2099-01-01T00:00:00Z"}).json()["id"]
        for path, never in ((f"/v1/jobs/{job}/events", job), (f"/v1/batches/{batch}/events", batch)):
            unknown = never.partition("_")[0] + "_" + "0" * 32
            refused, missing = bob.get(path), bob.get(path.replace(never, unknown))
            assert (refused.status_code, missing.status_code) == (404, 404)
            assert refused.json()["detail"].replace(never, unknown) == missing.json()["detail"]
        with listening(bob, "/v1/events", 0) as listener, listening(ann, "/v1/events", 0) as hers:
            assert listener.next().data["job_id"] == own
            hers.until("queued")
            claimed(api.engine)
            say(ann, "progress", job, owner="annabel", batch_id=batch, progress={"done": 1})
            hers.until("progress")
            bob.post(f"/v1/jobs/{own}/cancel")
            told = listener.next()
        assert (told.event, told.data["job_id"]) == ("canceled", own)


def finished(api: Api) -> str:
    """A job that was done, by a worker of this test's; no other may wait."""
    job = api.post("/v1/jobs", json={"prompt": "a red apple", "reuse": False}).json()
    lease.succeed(api.engine, claimed(api.engine), [PICTURE], recipe={}, timings={})
    return str(job["id"])


@contextmanager
def server(base_url: str, settings: Settings, owner: str | None = None) -> Iterator[Api]:
    """Another server than the module's; as its client an ``owner`` with a key, where one is given."""
    api = Api(base_url, settings)
    if owner:
        api.use(create_key(api.engine, owner, [Scope.ADMIN])[0])
    yield api
    api.close()


def say(api: Api, event: str, job: str, *, owner: str = "local", batch_id: str | None = None, **data: Any) -> None:
    """As a worker would."""
    publish(api, json.dumps({"event": event, "data": {"job_id": job, "batch_id": batch_id} | data}), owner)


def publish(api: Api, message: str, owner: str = "local") -> None:
    """To who listens, who may have begun to a moment ago."""
    url = api.settings.broker_url.get_secret_value()
    with redis.Redis.from_url(url) as broker:
        name = channel(url, owner)
        wait_for("listener", lambda: dict(broker.pubsub_numsub(name))[name.encode()])  # type: ignore[arg-type]
        broker.publish(name, message)


def connections(api: Api) -> int:
    """Those of API processes to the database."""
    with reading(api.engine) as connection:
        wanted = text(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kiln-api' AND datname = current_database()"
        )
        return int(connection.execute(wanted).scalar_one())
