"""Who may call, and what they see of each other: nothing."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from pydantic import SecretStr

from common.jobs.workers import record_worker
from common.settings import Settings
from tests.api.conftest import Api
from tests.jobs.make import claimed
from tests.processes import changed, running_api

KEYS = {"ann": SecretStr("ann-secret"), "bob": SecretStr("bob-secret")}


@pytest.fixture(scope="module")
def guarded(
    module_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Settings, Path]]:
    settings = changed(module_settings, api_keys=KEYS)
    log = tmp_path_factory.mktemp("api") / "api.log"
    with running_api(settings, log=log) as base_url:
        yield base_url, settings, log


@pytest.fixture
def ann(guarded: tuple[str, Settings, Path]) -> Iterator[Api]:
    api = Api(guarded[0], guarded[1], Authorization="Bearer ann-secret")
    yield api
    api.close()


@pytest.fixture
def bob(guarded: tuple[str, Settings, Path]) -> Iterator[Api]:
    api = Api(guarded[0], guarded[1], Authorization="Bearer bob-secret")
    yield api
    api.close()


@pytest.mark.parametrize(
    "header", [None, "Bearer nope", "Bearer", "Basic ann-secret", "Bearer ann-secret2", "Bearer é"]
)
def test_without_a_known_key_nothing_is_served(ann: Api, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode()}
    for path in ("/v1/jobs", "/v1/models", "/v1/queue", "/v1/workers", "/v1/images"):
        answer = httpx2.get(ann.base_url + path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    with ann.nothing_changes():
        answer = httpx2.post(ann.base_url + "/v1/jobs", json={"prompt": "a"}, headers=headers)
        assert answer.status_code == 401


def test_another_owners_job_is_404_like_one_that_never_was(ann: Api, bob: Api) -> None:
    job = ann.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    never = "job_" + "0" * 32
    calls = [("GET", "/v1/jobs/{}"), ("POST", "/v1/jobs/{}/cancel"), ("POST", "/v1/jobs/{}/retry")]
    for method, path in [*calls, ("DELETE", "/v1/jobs/{}")]:
        theirs, unknown = bob.request(method, path.format(job)), bob.request(method, path.format(never))
        assert (theirs.status_code, unknown.status_code) == (404, 404)
        assert without_names(theirs, job) == without_names(unknown, never)
    assert bob.get("/v1/jobs").json()["data"] == []
    assert ann.get(f"/v1/jobs/{job}").json()["status"] == "queued"


def test_a_worker_names_to_each_owner_only_their_own_running_jobs(ann: Api, bob: Api) -> None:
    ann.empty()
    record_worker(ann.engine, "w1", state="ready", models=["demo"], device="cpu", seats=2, figures={"slots": 4})
    jobs = {api: api.post("/v1/jobs", json={"prompt": "a"}).json()["id"] for api in (ann, bob)}
    for _ in jobs:
        claimed(ann.engine, "w1")
    ann.post("/v1/jobs", json={"prompt": "one that waits"})

    for api, other in ((ann, bob), (bob, ann)):
        (worker,) = api.get("/v1/workers").json()["data"]
        assert (worker["slots"], worker["running"], worker["jobs"]) == (4, 2, [jobs[api]])
        theirs = UUID(jobs[other].removeprefix("job_"))
        for path in ("/v1/workers", "/metrics", "/readyz"):
            told = api.get(path).text
            assert theirs.hex not in told
            assert str(theirs) not in told


def without_names(answer: httpx2.Response, job: str) -> dict[str, object]:
    return {k: str(v).replace(job, "") for k, v in answer.json().items() if k != "request_id"}


def test_a_key_appears_in_no_log(ann: Api, guarded: tuple[str, Settings, Path]) -> None:
    ann.post("/v1/jobs", json={"prompt": "hush-hush"})
    ann.post("/v1/jobs", json={"prompt": ""})
    log = guarded[2].read_text()
    assert "ann-secret" not in log
    assert "hush-hush" not in log


def test_without_keys_only_this_machine_is_served(api: Api) -> None:
    assert api.get("/v1/jobs").status_code == 200
    for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "203.0.113.7"}):
        answer = api.get("/v1/jobs", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert api.get("/metrics", headers=headers).status_code == 403
    assert api.get("/healthz", headers={"Host": "evil.example"}).status_code == 200
