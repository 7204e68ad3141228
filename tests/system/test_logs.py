"""What the real processes log of real jobs, some of which fail: enough to follow each one, and no secret."""

import json
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import psycopg
import pytest

from common.db import make_engine
from common.jobs.keys import Scope, create_key
from common.settings import Settings
from tests.deployment import Kiln, running_kiln
from tests.processes import changed, wait_for

PROMPT = "a heron that nobody may read of"
WORKER_FAILS, API_FAILS = 4242, 4343  # seeds

# The server then quotes the whole row, prompt and all, in its error
FAULTS = f"""
ALTER TABLE jobs ADD CONSTRAINT worker_fails CHECK (styled_prompt IS NULL OR spec->>'seed' <> '{WORKER_FAILS}');
ALTER TABLE jobs ADD CONSTRAINT api_fails CHECK (spec->>'seed' <> '{API_FAILS}');
"""
MENDED = """
ALTER TABLE jobs DROP CONSTRAINT worker_fails, DROP CONSTRAINT api_fails;
DELETE FROM api_keys;
"""


@pytest.fixture(scope="module", params=["json", "console"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True, slots=True)
class Ended:
    """What was asked for, what nobody may see, and what the processes wrote until their end."""

    good: str
    bad: str
    worker: int
    secrets: dict[str, str]
    logs: dict[str, str]


@pytest.fixture(scope="module")
def ended(form: str, module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """One job that went well, one that broke the worker's stage, one that broke the API; then all was stopped."""
    settings = changed(module_settings, log_format=form, log_level="debug")
    logs = tmp_path_factory.mktemp("logs")
    with running_kiln(settings, logs) as kiln, kiln.worker() as worker:
        good, bad, secrets = _use(kiln)
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as database:
        database.execute(MENDED)
    return Ended(good, bad, worker.pid, secrets, {log.stem: log.read_text() for log in logs.glob("*.log")})


def _use(kiln: Kiln) -> tuple[str, str, dict[str, str]]:
    settings, url = kiln.settings, kiln.settings.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(FAULTS)
    engine = make_engine(url, name="kiln-test", pool_size=1)
    key, _ = create_key(engine, "ann", [Scope.SUBMIT, Scope.READ])
    engine.dispose()
    log = kiln.logs / "worker.log"
    job = {"prompt": PROMPT, "num_inference_steps": 2, "width": 64, "height": 64}
    with httpx2.Client(base_url=kiln.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        good = client.post("/v1/jobs", json=job, headers={"Prefer": "wait=60"}).json()
        assert good["status"] == "succeeded", kiln.tails()
        assert client.get(good["images"][0]["url"]).status_code == 200
        bad = client.post("/v1/jobs", json=job | {"seed": WORKER_FAILS}).json()
        wait_for("failed attempt", lambda: "attempt failed" in log.read_text())
        client.post(f"/v1/jobs/{bad['id']}/cancel")
        assert client.post("/v1/jobs", json=job | {"seed": API_FAILS}).status_code == 500
        wait_for("the API's words", lambda: "unexpected error" in (kiln.logs / "api.log").read_text())
    query = parse_qs(urlsplit(good["images"][0]["url"]).query)
    secrets = {
        "the prompt": PROMPT,
        "the key": key.rpartition("_")[2],
        "the signature": query["X-Amz-Signature"][0],
        "the password of the database": str(urlsplit(url).password),
        "the password of the broker": str(urlsplit(settings.broker_url.get_secret_value()).password),
        "the key of the storage": settings.s3_secret_key.get_secret_value(),
    }
    return good["id"], bad["id"], secrets


def test_no_secret_stands_in_any_log_though_errors_quote_them(ended: Ended) -> None:
    assert ended.logs.keys() == {"api", "sweeper", "worker"}
    found = {
        f"{what} in the {process}'s log": next(line for line in text.splitlines() if secret in line)
        for process, text in ended.logs.items()
        for what, secret in ended.secrets.items()
        if secret in text
    }
    assert not found
    for process, fault in (("api", "api_fails"), ("worker", "worker_fails")):
        assert fault in ended.logs[process]
        assert "DETAIL: ***" in ended.logs[process]


def test_every_line_of_a_job_names_the_job_its_attempt_and_the_worker(ended: Ended, form: str) -> None:
    for job, events in ((ended.good, ("job started", "job ended")), (ended.bad, ("job started", "attempt failed"))):
        for event in events:
            line = next(line for line in ended.logs["worker"].splitlines() if event in line and job in line)
            told = json.loads(line) if form == "json" else _fields(line)
            assert (told["job"], int(told["attempt"]), told["worker"].split(":")[1]) == (job, 1, str(ended.worker))


def test_every_line_is_json_where_that_is_asked_for_and_names_its_worker(ended: Ended, form: str) -> None:
    if form != "json":
        return
    lines = {process: [json.loads(line) for line in text.splitlines()] for process, text in ended.logs.items()}
    for told in chain(*lines.values()):
        assert {"event", "level", "timestamp"} <= told.keys()
    ready = [told["event"] for told in lines["worker"]].index("worker ready")
    assert all("worker" in told for told in lines["worker"][ready:])
    assert any("Traceback" in told.get("exception", "") for told in lines["api"])


def _fields(line: str) -> dict[str, Any]:
    """The name=value words of a console line."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)
