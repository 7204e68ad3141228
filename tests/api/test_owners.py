"""Two owners over every route: what is one's, the other neither sees nor changes."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2
import pytest

from common.jobs import lease
from common.jobs.keys import Scope, create_key
from common.jobs.workers import record_worker
from common.settings import Settings
from tests.api.conftest import Api, calls
from tests.jobs.make import PICTURE, claimed
from tests.processes import changed, running_api

HOOK = {"url": "https://annabel.example/hook"}
SECRETS = {
    "prompt": "annabel's words",
    "negative_prompt": "annabel's fears",
    "metadata": {"annabel": "album"},
    "webhook": HOOK,
}
PAINTED = replace(PICTURE, key="images/hers/1/0.png", thumbnail_key="images/hers/1/0.thumb.webp", sha256="5ec7e7" * 8)
BATCH = {
    "name": "annabel's night",
    "matrix": {"prompts": ["annabel's words"]},
    "metadata": {"annabel": "album"},
    "webhook": HOOK,
}
LINE = b'{"custom_id": "annabel", "method": "POST", "url": "/v1/images/generations", "body": {"prompt": "a"}}'
FAR = {"not_before": "2099-01-01T00:00:00Z"}


@pytest.fixture(scope="module")
def guarded(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = changed(module_settings, requests_per_minute=1_000_000)  # every route, many times over
    with running_api(settings, log=tmp_path_factory.mktemp("api") / "api.log") as base_url:
        yield base_url


@pytest.fixture
def ann(guarded: str, module_settings: Settings) -> Iterator[Api]:
    yield from _owner("annabel", guarded, module_settings)


@pytest.fixture
def bob(guarded: str, module_settings: Settings) -> Iterator[Api]:
    yield from _owner("bob", guarded, module_settings)


def _owner(name: str, base_url: str, settings: Settings) -> Iterator[Api]:
    api = Api(base_url, settings)
    api.objects.ensure_bucket()
    api.empty()
    api.use(create_key(api.engine, name, [Scope.ADMIN])[0])
    yield api
    api.close()


def test_no_route_tells_or_changes_anything_of_another_owner(ann: Api, bob: Api) -> None:
    finished, image = _painted(ann)
    running, waiting = (ann.post("/v1/jobs", json=SECRETS).json()["id"] for _ in range(2))
    claimed(ann.engine, "w1")
    record_worker(ann.engine, "w1", state="ready", models=["demo"], device="cpu", seats=2, figures={})
    hers = {"running": running, "waiting": waiting, "finished": finished}
    batch = ann.post("/v1/batches", json=BATCH).json()["id"]
    file = ann.post("/v1/files", data={"purpose": "batch"}, files={"file": ("annabel.jsonl", LINE)}).json()["id"]
    before = _everything(ann, hers)
    secret = ann.get("/v1/webhook-secret").json()["secret"]
    (delivery,) = ann.get("/v1/webhook-deliveries").json()["data"]

    asked = 0
    for job in hers.values():
        ids = {"image_id": image["id"], "batch_id": batch, "file_id": file, "delivery_id": delivery["id"]}
        for method, path in calls(ann, job_id=job, **ids):
            for query in (
                "",
                f"after={job}",
                f"after={image['id']}",
                f"batch_id={batch}",
                f"job_id={job}",
                f"after={delivery['id']}",
                "sort=-clip_score",
                "proxy=1",
            ):
                query = f"{'&' if '?' in path else '?'}{query}"
                answer = bob.request(method, path + query, **_body(method))
                unknown = bob.request(method, _never(path + query), **_body(method))
                assert (answer.status_code, _masked(answer)) == (unknown.status_code, _masked(unknown)), path
                _tells_nothing(answer, [*hers.values(), *ids.values()])
                assert secret not in answer.text
                assert answer.status_code == 404 or path == _never(path), path
                asked += 1
    assert asked > 200
    assert _everything(ann, hers) == before
    assert ann.get("/v1/webhook-deliveries").json()["data"] == [delivery]
    assert ann.get("/v1/webhook-secret").json()["secret"] == secret
    assert ann.get(f"/v1/batches/{batch}").json()["counts"]["queued"] == 1
    assert ann.get(f"/v1/files/{file}/content").content == LINE


def test_a_key_that_may_only_submit_is_told_ids_whatever_it_asks_for(ann: Api) -> None:
    """Of older jobs too: of what was repeated, of an equal one's pictures, of one that it cancels or retries."""
    finished, image = _painted(ann)
    waiting = ann.post("/v1/jobs", json=SECRETS | FAR, headers={"Idempotency-Key": "once"}).json()["id"]
    batch = ann.post("/v1/batches", json=BATCH).json()["id"]
    (delivery,) = ann.get("/v1/webhook-deliveries").json()["data"]
    ann.use(create_key(ann.engine, "annabel", [Scope.SUBMIT])[0])
    equal = SECRETS | {"seed": PAINTED.seed}
    sent: list[tuple[str, dict[str, Any]]] = [
        ("/v1/jobs", {"json": equal}),
        ("/v1/jobs", {"json": SECRETS | FAR, "headers": {"Idempotency-Key": "once"}}),
        ("/v1/jobs", {"json": equal, "headers": {"Prefer": "wait=5"}}),
        ("/v1/batches", {"json": BATCH}),
        ("/v1/batches", {"json": BATCH | {"dry_run": True}}),
    ]
    for job in (finished, waiting):
        ids = {"job_id": job, "image_id": image["id"], "batch_id": batch, "delivery_id": delivery["id"]}
        sent += [(path, {}) for method, path in calls(ann, **ids) if method == "POST" and _never(path) != path]
    for path, given in sent:
        answer = ann.post(path, **given)
        _tells_nothing(answer, [])
        told = answer.json()
        if answer.status_code == 409:  # canceled by a call before
            assert path.endswith("/retry-failed")
            continue
        assert answer.status_code in (200, 202), (path, answer.text)
        assert told.keys() <= {"id", "object", "urls"} or told["object"] == "estimate", path
    assert ann.get(f"/v1/jobs/{finished}").status_code == 403


def test_a_picture_of_another_owner_is_a_cursor_no_more_than_one_that_never_was(ann: Api, bob: Api) -> None:
    """Else whoever learns its id finds out its score: what is listed after it scores less."""
    _, hers = _painted(ann)
    _, first = _painted(bob)
    _, second = _painted(bob)
    pages = [bob.get(f"/v1/images?sort=-clip_score&after={after}").json() for after in (hers["id"], _never(hers["id"]))]
    assert [page["data"] for page in pages] == [[], []]
    (own,) = bob.get(f"/v1/images?sort=-clip_score&after={second['id']}").json()["data"]
    assert own["id"] == first["id"]


def test_an_idempotency_key_of_another_owner_replays_nothing(ann: Api, bob: Api) -> None:
    headers = {"Idempotency-Key": "the same"}
    first = ann.post("/v1/jobs", json=SECRETS, headers=headers)
    second = bob.post("/v1/jobs", json=SECRETS, headers=headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert "idempotency-replayed" not in second.headers
    assert first.json()["id"] != second.json()["id"]


def test_a_worker_names_to_each_owner_only_their_own_running_jobs(ann: Api, bob: Api) -> None:
    record_worker(ann.engine, "w1", state="ready", models=["demo"], device="cpu", seats=2, figures={"slots": 4})
    jobs = {api: api.post("/v1/jobs", json={"prompt": "a"}).json()["id"] for api in (ann, bob)}
    for _ in jobs:
        claimed(ann.engine, "w1")
    for api in (ann, bob):
        (worker,) = api.get("/v1/workers").json()["data"]
        assert (worker["slots"], worker["running"], worker["jobs"]) == (4, 2, [jobs[api]])


def _painted(api: Api) -> tuple[str, dict[str, Any]]:
    """A finished job of the owner's, and its picture."""
    job: str = api.post("/v1/jobs", json=SECRETS).json()["id"]
    for key in (PAINTED.key, PAINTED.thumbnail_key):
        assert key is not None
        api.objects.put(key, b"png", "image/png")
    lease.succeed(api.engine, claimed(api.engine), [PAINTED], recipe={}, timings={})
    (image,) = api.get(f"/v1/jobs/{job}").json()["images"]
    return job, image


def _everything(api: Api, jobs: dict[str, str]) -> list[Any]:
    """What the owner sees of each job; a presigned URL is another every second."""
    keep = ("id", "status", "attempt", "input", "metadata", "error", "finished_at")
    shown = [api.get(f"/v1/jobs/{job}").json() for job in jobs.values()]
    return [{name: job[name] for name in keep} | {"pictures": len(job["images"])} for job in shown]


def _body(method: str) -> dict[str, Any]:
    return {"json": {"prompt": "bob's"} | FAR} if method == "POST" else {}


def _never(text: str) -> str:
    """The same with ids that never were."""
    return re.sub(r"(job|img|batch|file|msg)_[0-9a-f-]{20,}", lambda found: f"{found[1]}_{'0' * 32}", text)


def _masked(answer: httpx2.Response) -> object:
    """The answer of a refusal but for the ids that were asked for, which differ by intent."""
    if answer.status_code < 400:
        return None
    body = json.loads(_never(answer.text))
    return {name: value for name, value in body.items() if name != "request_id"}


def _tells_nothing(answer: httpx2.Response, ids: list[str]) -> None:
    """No word of hers, no object of hers; and no id of hers but in the refusal of the very call that named it."""
    told = answer.text + str(answer.headers)
    for words in ("annabel", "images/hers", str(PAINTED.sha256)):
        assert words not in told, (words, answer.request.url)
    if answer.status_code < 400:
        for shown in ids:
            number = UUID(shown.partition("_")[2])
            assert number.hex not in told, answer.request.url
            assert str(number) not in told, answer.request.url
