"""A running Kiln as its users see it: API, sweeper and workers as processes of their own, on real servers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx2

from common.settings import Settings
from tests.processes import changed, environment, running, running_api, wait_for

TERMINAL = ("succeeded", "failed", "canceled", "expired")


@dataclass(slots=True)
class Kiln:
    """A running deployment, seen as its users see it."""

    url: str
    settings: Settings
    logs: Path

    def post(self, **body: Any) -> dict[str, Any]:
        answer = httpx2.post(f"{self.url}/v1/jobs", json={"prompt": "a red apple"} | body, timeout=30)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = httpx2.get(f"{self.url}/v1/jobs/{job_id}", timeout=30).json()
        return job

    def wait(self, job_id: str, until: Callable[[dict[str, Any]], object], *, seconds: float = 60) -> dict[str, Any]:
        """The job once ``until`` holds; fails with the job as last seen."""
        last: dict[str, Any] = {}

        def holds() -> object:
            last.update(self.job(job_id))
            return until(last)

        try:
            wait_for(f"such state of {job_id}", holds, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the job: {last}; the logs: {self.tails()}") from None
        return last

    def finished(self, job_id: str, *, seconds: float = 60) -> dict[str, Any]:
        return self.wait(job_id, lambda job: job["status"] in TERMINAL, seconds=seconds)

    @contextmanager
    def worker(self, name: str = "worker", **settings: Any) -> Iterator[Popen[bytes]]:
        """One more worker, ready."""
        with running(["worker"], environment(changed(self.settings, **settings)), self.logs / f"{name}.log") as process:

            def ready() -> bool:
                assert process.poll() is None, self.tails()
                return process.pid in self.ready_workers()

            wait_for("ready worker", ready, seconds=180)
            yield process

    def ready_workers(self) -> set[int]:
        """Process ids; a worker's id is host:pid:random."""
        workers = httpx2.get(f"{self.url}/v1/workers", timeout=30).raise_for_status().json()["data"]
        return {int(worker["id"].split(":")[-2]) for worker in workers if worker["state"] == "ready"}

    def tails(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.logs.glob("*.log")))


@contextmanager
def running_kiln(settings: Settings, logs: Path) -> Iterator[Kiln]:
    """API and sweeper; the workers are the test's to bring."""
    with (
        running_api(settings, log=logs / "api.log") as url,
        running(["worker.sweeper"], environment(settings), logs / "sweeper.log"),
    ):
        yield Kiln(url, settings, logs)
