"""Each of our services does its work with exactly the command and environment that docker-compose.yml gives it.

Only what names a machine is changed: where the three servers are, the port of the API, and the image's python.
"""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from common.settings import Settings
from tests.containers.compose import ROOT, bare, environment, load, process, read_env
from tests.processes import free_port, wait_for

HAND_FILLED = {
    "POSTGRES_PASSWORD": "0",
    "API_PASSWORD": "a",
    "WORKER_PASSWORD": "b",
    "REDIS_PASSWORD": "0",
    "KILN_S3_SECRET_KEY": "0",
    "KILN_MODEL": "demo",
}


class Deployment:
    """The services of docker-compose.yml as processes of this machine, on the test's own servers."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.port = str(free_port())
        self._env_file = read_env(ROOT / ".env.example") | HAND_FILLED
        self._services = load(self._env_file)
        self._folder = folder
        self._elsewhere = {
            "KILN_DATABASE_URL": settings.database_url.get_secret_value(),
            "KILN_BROKER_URL": settings.broker_url.get_secret_value(),
            "KILN_S3_ENDPOINT_URL": settings.s3_endpoint_url,
            "KILN_S3_PUBLIC_URL": settings.s3_endpoint_url,
            "KILN_S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
            "KILN_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
            "KILN_METRICS_HOST": "127.0.0.1",
            "KILN_METRICS_PORT": str(free_port()),
        }

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """A one-shot service, to its end."""
        return self._call(self._services[name]["command"], name)

    def check(self, name: str) -> subprocess.CompletedProcess[str]:
        """One round of the service's health check."""
        kind, *words = self._services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self._call(words, name)

    def execute(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in the service's container: docker compose exec."""
        return self._call(list(words), name)

    @contextmanager
    def up(self, name: str) -> Iterator[None]:
        """A service during the block, healthy at its start; asked to stop, it ends within its grace."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            started = subprocess.Popen(
                self._here(self._services[name]["command"]),
                env=self._environment(name),
                cwd=self._folder,
                stdout=output,
                stderr=output,
            )
        try:
            if "healthcheck" in self._services[name]:
                self._wait_healthy(name, started, log)
            yield
            assert started.poll() is None, log.read_text()
            started.terminate()
            seconds = int(self._services[name].get("stop_grace_period", "10s").removesuffix("s"))
            # uvicorn shuts down in good order, and then ends by the signal that it got
            assert started.wait(timeout=seconds) in (0, -signal.SIGTERM), log.read_text()
            said = [json.loads(line) for line in log.read_text().splitlines()]  # to the last line, as .env asks for it
            assert name != "worker" or "worker starts" in [line["event"] for line in said], said
        finally:
            started.kill()
            started.wait()

    def _wait_healthy(self, name: str, started: subprocess.Popen[bytes], log: Path) -> None:
        seen: list[str] = []

        def healthy() -> bool:
            assert started.poll() is None, log.read_text()
            check = self.check(name)
            seen[:] = [check.stderr]
            return check.returncode == 0

        try:
            wait_for(f"healthy {name}", healthy, seconds=90)
        except AssertionError as error:
            raise AssertionError(f"{error}; its check said {seen}; its log:\n{log.read_text()}") from error

    def _call(self, words: list[str], name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._here(words),
            env=self._environment(name),
            cwd=self._folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def _environment(self, name: str) -> dict[str, str]:
        given = environment(self._services[name], self._env_file)
        there = {variable: self._elsewhere[variable] for variable in given.keys() & self._elsewhere}
        if name != "migrate":  # which has the owner's rights, and here the owner's password
            there["KILN_DATABASE_URL"] = _as_user_of(given["KILN_DATABASE_URL"], there["KILN_DATABASE_URL"])
        return bare() | given | there

    def _here(self, words: list[str]) -> list[str]:
        return process([word.replace("8000", self.port).replace("0.0.0.0", "127.0.0.1") for word in words])  # noqa: S104


def _as_user_of(url: str, place: str) -> str:
    """The database of ``place``, with the user and the password of ``url``."""
    user = urlsplit(url).netloc.rpartition("@")[0]
    return urlsplit(place)._replace(netloc=f"{user}@{urlsplit(place).netloc.rpartition('@')[2]}").geturl()


@pytest.fixture
def deployment(module_settings: Settings, tmp_path: Path) -> Deployment:
    """Nothing runs yet, and the database is empty."""
    subprocess.run(
        process(["python", "-m", "migrations", "downgrade", "--to", "base"]),
        env=bare() | {"KILN_DATABASE_URL": module_settings.database_url.get_secret_value()},
        check=True,
    )
    return Deployment(module_settings, tmp_path)


def test_one_job_goes_through_the_services_of_the_compose_file(deployment: Deployment) -> None:
    for _ in range(2):  # every `docker compose up` migrates again
        migrated = deployment.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
    with ExitStack() as running:
        for name in ("api", "sweeper", "worker"):
            running.enter_context(deployment.up(name))
        client = running.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{deployment.port}", timeout=30))
        made = deployment.execute("migrate", "python", "-m", "client", "keys", "create", "me", "--json")
        assert made.returncode == 0, made.stderr
        client.headers["Authorization"] = f"Bearer {json.loads(made.stdout)['key']}"
        wait_for(
            "end of free calls", lambda: httpx2.get(f"http://127.0.0.1:{deployment.port}/v1/jobs").status_code == 401
        )
        accepted = client.post("/v1/jobs", json={"prompt": "a lighthouse", "num_inference_steps": 2})
        assert accepted.status_code == 202, accepted.text
        job = _finished(client, accepted.json()["id"])
        assert job["status"] == "succeeded", job
        assert job["input"]["model"] == "demo"
        picture = httpx2.get(job["images"][0]["url"])  # as a browser: without the key
        assert picture.content.startswith(b"\x89PNG")
        assert client.get("/readyz").json()["workers"]["states"]["ready"] == 1


def test_a_worker_that_does_not_run_is_told_unhealthy_in_one_line(deployment: Deployment) -> None:
    assert deployment.run("migrate").returncode == 0
    check = deployment.check("worker")
    assert check.returncode == 1
    assert len(check.stderr.strip().splitlines()) == 1, check.stderr


def _finished(client: httpx2.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(client.get(f"/v1/jobs/{job_id}").json())
        return found["status"] not in ("queued", "running")

    try:
        wait_for("end of the job", ended, seconds=60)
    except AssertionError as error:
        raise AssertionError(f"{error}; last seen: {found}") from error
    return found
