"""How much one caller may ask: requests a minute, waiting jobs, and the cost of a job."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from common.jobs.keys import Scope, create_key
from common.settings import Settings
from tests.api.conftest import Api
from tests.processes import changed, free_port, running_api

JOB = {"prompt": "a"}


@contextmanager
def served(settings: Settings, database_url: str, log: Path, **changes: object) -> Iterator[Api]:
    """An API with a database of its own, so that its keys close no other, and a key for it."""
    settings = changed(settings, database_url=SecretStr(database_url), **changes)
    with running_api(settings, log) as base_url:
        api = Api(base_url, settings)
        api.objects.ensure_bucket()
        api.empty()
        api.use(create_key(api.engine, "ann", [Scope.SUBMIT, Scope.READ])[0])
        try:
            yield api
        finally:
            api.close()


def test_a_key_has_its_requests_a_minute_over_all_api_processes_and_then_429_says_when(
    module_settings: Settings, database_url: str, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    with served(module_settings, database_url, first, requests_per_minute=6) as api:
        with running_api(api.settings, second) as other_url:
            other = Api(other_url, api.settings)
            key, _ = create_key(api.engine, "ann", [Scope.READ])
            other.use(key)
            api.use(key)
            assert [each.get("/v1/jobs").status_code for each in (api, other) * 3] == [200] * 6
            for each in (api, other):
                answer = each.get("/v1/jobs")
                assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
                assert answer.headers["content-type"] == "application/problem+json"
                assert 1 <= int(answer.headers["retry-after"]) <= 60
                assert "x-should-retry" not in answer.headers
            other.close()
        api.use(create_key(api.engine, "ann", [Scope.READ])[0])
        assert api.get("/v1/jobs").status_code == 200
        broker = redis.Redis.from_url(api.settings.broker_url.get_secret_value())
        for counter in broker.scan_iter("kiln.requests.*"):
            assert 0 < broker.pttl(counter) <= 60_000
            broker.delete(counter)  # what the end of that minute does, whatever the machine's clock does meanwhile
        broker.close()
        api.use(key)
        assert api.get("/v1/jobs").status_code == 200


@pytest.mark.parametrize("silent", [False, True], ids=["gone", "silent"])
def test_while_the_broker_is_away_nobody_is_refused_and_the_log_says_so(
    module_settings: Settings, database_url: str, log: Path, silent: bool
) -> None:
    with served(module_settings, database_url, log) as api, socket.create_server(("127.0.0.1", 0)) as mute:
        key, _ = create_key(api.engine, "ann", [Scope.SUBMIT, Scope.READ])
        dead = SecretStr(f"redis://127.0.0.1:{mute.getsockname()[1] if silent else free_port()}/0")
        away = log.with_name("away.log")
        with running_api(changed(api.settings, broker_url=dead, requests_per_minute=1), away) as url:
            caller = Api(url, api.settings)
            caller.use(key)
            for _ in range(3):
                started = time.monotonic()
                assert caller.post("/v1/jobs", json=JOB).status_code == 202
                assert time.monotonic() - started < 2
            caller.close()
        assert away.read_text().count("requests not counted") == 1


def test_an_owner_with_a_full_share_gets_429_and_others_go_on(
    module_settings: Settings, database_url: str, log: Path
) -> None:
    with served(module_settings, database_url, log, max_queued_per_owner=2) as api:
        assert [api.post("/v1/jobs", json=JOB).status_code for _ in range(2)] == [202, 202]
        with api.nothing_changes():
            answer = api.post("/v1/jobs", json=JOB)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert "2 jobs of yours" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
        api.use(create_key(api.engine, "bob", [Scope.SUBMIT])[0])
        assert api.post("/v1/jobs", json=JOB).status_code == 202


def test_the_largest_default_job_of_stable_diffusion_is_within_the_budget(api: Api) -> None:
    answer = api.post("/v1/jobs", json=JOB | {"model": "sd-v1-4", "num_images": 8})
    assert answer.status_code == 202
    told = answer.json()["input"]
    assert (told["width"], told["height"], told["num_inference_steps"], told["num_images"]) == (512, 512, 250, 8)


@pytest.mark.parametrize(
    ("dearer", "accepted"),
    [({}, True), ({"num_inference_steps": 251}, False), ({"scheduler": "heun_discrete"}, False)],
)
def test_a_job_beyond_the_budget_is_refused_with_every_field_that_makes_it_dear(
    api: Api, dearer: dict[str, object], accepted: bool
) -> None:
    dear = JOB | {"width": 1024, "height": 1024, "num_inference_steps": 250, "num_images": 8}
    if accepted:
        assert api.post("/v1/jobs", json=dear | dearer).status_code == 202
        return
    with api.nothing_changes():
        answer = api.post("/v1/jobs", json=dear | dearer)
    assert answer.status_code == 422
    fields = [error["pointer"] for error in answer.json()["errors"]]
    assert fields == ["/width", "/height", "/num_images", "/num_inference_steps"]
    assert "it may cost 2097152000" in answer.json()["detail"]
