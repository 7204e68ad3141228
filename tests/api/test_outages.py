"""The API while a service is away: it answers within two seconds, accepts what it can, and names what is missing."""

import time
from pathlib import Path

import httpx2
from pydantic import SecretStr

from tests.api.conftest import Api
from tests.processes import changed, free_port, running_api


def test_a_job_is_accepted_while_the_broker_is_away(api: Api, log: Path) -> None:
    dead = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    with running_api(changed(api.settings, broker_url=dead), log) as url:
        started = time.monotonic()
        answer = httpx2.post(f"{url}/v1/jobs", json={"prompt": "a"}, timeout=10)
        assert time.monotonic() - started < 2
        assert answer.status_code == 202
        ready = httpx2.get(f"{url}/readyz", timeout=10)
    assert ready.status_code == 503
    checks = ready.json()["checks"]
    assert {name for name, check in checks.items() if not check["ok"]} == {"broker"}
    assert api.get(f"/v1/jobs/{answer.json()['id']}").json()["status"] == "queued"


def test_without_the_database_the_answer_is_503_and_says_when_to_try_again(api: Api, log: Path) -> None:
    dead = SecretStr(f"postgresql://kiln:secret-word@127.0.0.1:{free_port()}/kiln")
    with running_api(changed(api.settings, database_url=dead), log) as url:
        started = time.monotonic()
        answer = httpx2.post(f"{url}/v1/jobs", json={"prompt": "a"}, timeout=10)
        assert time.monotonic() - started < 2
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "2"
        assert httpx2.get(f"{url}/healthz").status_code == 200
        checks = httpx2.get(f"{url}/readyz", timeout=10).json()["checks"]
    assert {name for name, check in checks.items() if not check["ok"]} == {"database"}
    assert "secret-word" not in answer.text + log.read_text()


def test_without_the_bucket_jobs_are_accepted_and_readiness_names_it(api: Api, log: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    with running_api(changed(api.settings, s3_endpoint_url=dead), log) as url:
        assert httpx2.post(f"{url}/v1/jobs", json={"prompt": "a"}).status_code == 202
        started = time.monotonic()
        checks = httpx2.get(f"{url}/readyz", timeout=10).json()["checks"]
        assert time.monotonic() - started < 2
    assert {name for name, check in checks.items() if not check["ok"]} == {"bucket"}
