"""Services that are silent, slow or locked: every endpoint answers in time, and what needs none of them at once."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import psycopg
import pytest
from pydantic import SecretStr

from common.ids import show_id
from common.jobs import lease
from common.jobs.keys import Scope, create_key
from common.settings import Settings
from tests.api.conftest import Api, calls
from tests.jobs.make import PICTURE, claimed
from tests.processes import changed, running_api, slowness
from tests.proxy import Mode, Proxy, proxied

IN_TIME = 2.0  # seconds
AT_ONCE = 0.5
APART = 0.01  # between two calls: it is the waiting that is tried, not how many one processor can begin at once
LINES = b'{"prompt": "a hen"}\n'
# What each call is sent. Whatever is not here is sent nothing, or an empty object
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/jobs"): {"json": {"prompt": "a cat"}},
    ("POST", "/v1/batches"): {"json": {"matrix": {"prompts": ["a cat"]}}},
    ("POST", "/v1/images/generations"): {"json": {"prompt": "a cat"}, "headers": {"Prefer": "wait=0"}},
    ("POST", "/v1/files"): {"files": {"file": ("lines.jsonl", LINES)}, "data": {"purpose": "batch"}},
}


@dataclass(slots=True)
class Site:
    """An API whose services are reached through proxies, and something of everything in its database."""

    api: Api
    url: str
    key: str
    proxies: dict[str, Proxy]
    ids: dict[str, str]

    def calls(self) -> list[tuple[str, str]]:
        """All that are documented; pictures by their bytes, too."""
        asked = calls(self.api, **self.ids)
        return [*asked, *((method, f"{path}?proxy=1") for method, path in asked if path.endswith("/content"))]

    def become(self, mode: Mode, service: str) -> None:
        self.proxies[service].become(mode)


@pytest.fixture(scope="module")
def site(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = module_settings
    urls = {
        "database": settings.database_url.get_secret_value(),
        "broker": settings.broker_url.get_secret_value(),
        "store": settings.s3_endpoint_url,
    }
    with ExitStack() as stack:
        proxies = {
            name: stack.enter_context(proxied("127.0.0.1", httpx2.URL(url).port or 0)) for name, url in urls.items()
        }
        through = {name: str(httpx2.URL(url).copy_with(port=proxies[name].port)) for name, url in urls.items()}
        behind = changed(
            settings,
            database_url=SecretStr(through["database"]),
            broker_url=SecretStr(through["broker"]),
            s3_endpoint_url=through["store"],
            s3_public_url=urls["store"],
        )
        api = Api("", settings)
        key, _ = create_key(api.engine, "ann", [Scope.ADMIN])
        api.base_url = stack.enter_context(running_api(behind, tmp_path_factory.mktemp("silence") / "api.log"))
        api.use(key)
        yield Site(api, api.base_url, key, proxies, _something_of_everything(api))
        api.close()


def _something_of_everything(api: Api) -> dict[str, str]:
    def post(path: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = api.post(api.base_url + path, **options).raise_for_status().json()
        return answer

    batch = post("/v1/batches", json={"matrix": {"prompts": ["a dog"]}})
    claim = claimed(api.engine)
    key = f"images/{claim.job_id}/1/0.png"
    api.objects.ensure_bucket()
    api.objects.put(key, b"png", "image/png")
    lease.succeed(api.engine, claim, [replace(PICTURE, key=key, thumbnail_key=key)], recipe={}, timings={})
    file = post("/v1/files", **BODIES["POST", "/v1/files"])
    job = api.get(f"{api.base_url}/v1/jobs?batch_id={batch['id']}").json()["data"][0]
    assert job["id"] == show_id("job", claim.job_id)
    return {"job_id": job["id"], "image_id": job["images"][0]["id"], "batch_id": batch["id"], "file_id": file["id"]}


@contextmanager
def locked(site: Site, statement: str) -> Iterator[None]:
    """Somebody holds a lock, as a long migration does."""
    with psycopg.connect(site.api.settings.database_url.get_secret_value()) as operator:
        operator.execute(statement)
        yield


@contextmanager
def silent(site: Site, mode: Mode, service: str) -> Iterator[None]:
    site.become(mode, service)
    try:
        yield
    finally:
        site.become("cut", service)  # what hangs is let go
        site.become("pass", service)


FAULTS = {
    "a silent database": lambda site: silent(site, "swallow", "database"),
    "a database of a byte a second": lambda site: silent(site, "trickle", "database"),
    "locked jobs": lambda site: locked(site, "LOCK TABLE jobs"),
    "locked keys and events": lambda site: locked(site, "LOCK TABLE api_keys, events, batches"),
    "a silent store": lambda site: silent(site, "swallow", "store"),
    "a store of a byte a second": lambda site: silent(site, "trickle", "store"),
    "a silent broker": lambda site: silent(site, "swallow", "broker"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_endpoint_answers_in_time(site: Site, fault: str) -> None:
    answers = asyncio.run(_ask(site, site.calls()))  # that all is well, and connections are there
    assert max(answer.status for answer in answers) < 500, answers
    with FAULTS[fault](site):
        for _ in range(2):  # at the second time it is known that something is away
            answers = asyncio.run(_ask(site, site.calls()))
            late = [answer for answer in answers if answer.seconds > IN_TIME * slowness()]
            assert not late, fault
            wrong = [
                answer for answer in answers if answer.status >= 500 and (answer.status, answer.again) != (503, True)
            ]
            assert not [answer for answer in wrong if answer.path not in ("/readyz",)], fault
    asyncio.run(_recover(site))


@pytest.mark.parametrize(
    ("service", "path"), [("store", "/v1/images/{image_id}/content?proxy=1"), ("database", "/v1/jobs/{job_id}")]
)
def test_a_hundred_requests_that_hang_delay_none_that_needs_nothing_of_them(
    site: Site, service: str, path: str
) -> None:
    hanging = [("GET", path.format(**site.ids))] * 100
    others = [("GET", each) for each in ("/healthz", "/v1/styles", "/v1/schedulers", "/openapi.json", "/")]
    if service == "store":
        others += [("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", f"/v1/batches/{site.ids['batch_id']}/results")]

    async def ask() -> tuple[list[Answer], list[Answer]]:
        crowd = asyncio.ensure_future(_ask(site, hanging))
        await asyncio.sleep(len(hanging) * APART)  # they have come, and none has been given up
        return await _ask(site, others), await crowd

    with silent(site, "swallow", service):
        quick, slow = asyncio.run(ask())
    assert max(answer.status for answer in quick) < 300, quick
    assert max(answer.seconds for answer in quick) < AT_ONCE * slowness(), quick
    assert {answer.status for answer in slow} == {503}
    assert max(answer.seconds for answer in slow) < IN_TIME * slowness()
    asyncio.run(_recover(site))


def test_a_job_is_deleted_though_the_store_is_silent_and_the_answer_says_so(site: Site) -> None:
    made = site.api.post(f"{site.url}/v1/jobs", json={"prompt": "a pig", "reuse": False}).json()["id"]
    site.api.post(f"{site.url}/v1/jobs/{made}/cancel").raise_for_status()
    with silent(site, "swallow", "store"):
        began = time.monotonic()
        assert site.api.request("DELETE", f"{site.url}/v1/jobs/{made}").status_code == 204
        assert time.monotonic() - began < IN_TIME * slowness()
    assert site.api.get(f"{site.url}/v1/jobs/{made}").status_code == 404


@dataclass(frozen=True, slots=True)
class Answer:
    method: str
    path: str
    status: int
    seconds: float
    again: bool  # whether it says when to try again


async def _ask(site: Site, asked: list[tuple[str, str]]) -> list[Answer]:
    headers = {"Authorization": f"Bearer {site.key}"}
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=site.url, headers=headers, timeout=60, limits=limits) as client:

        async def ask(number: int, method: str, path: str) -> Answer:
            await asyncio.sleep(number * APART)
            sent = BODIES.get((method, path), {"json": {}} if method == "POST" else {})
            request, began = client.build_request(method, path, **sent), time.monotonic()
            answer = await client.send(request, stream=True)
            seconds = time.monotonic() - began
            await answer.aclose()
            return Answer(method, path, answer.status_code, seconds, "retry-after" in answer.headers)

        calls = [call for call in asked if call[0] != "DELETE"]
        return await asyncio.gather(*(ask(number, *call) for number, call in enumerate(calls)))


async def _recover(site: Site) -> None:
    """Until all is well again."""
    until = time.monotonic() + 20 * slowness()
    while max(answer.status for answer in await _ask(site, [("GET", "/readyz"), ("GET", "/v1/jobs")])) >= 500:
        assert time.monotonic() < until
        await asyncio.sleep(0.2)
