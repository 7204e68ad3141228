"""A Kiln whose worker fails once, and what each of its processes told before and after one job."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.settings import Settings
from tests.deployment import Kiln, running_kiln
from tests.monitoring.scrape import Scrape, scrape
from tests.processes import changed, environment, free_port, running, wait_for


@dataclass(frozen=True, slots=True)
class Told:
    """What the processes said at one time."""

    api: Scrape
    worker: Scrape
    sweeper: Scrape

    @property
    def all(self) -> tuple[Scrape, ...]:
        return self.api, self.worker, self.sweeper


@dataclass(frozen=True, slots=True)
class Story:
    """One job that failed once and then succeeded."""

    job: dict[str, Any]
    before: Told
    after: Told

    def moved(self, process: str, name: str, **labels: str) -> float:
        """By how much a sum grew."""
        before, after = (getattr(told, process).sum(name, **labels) for told in (self.before, self.after))
        return float(after - before)


@pytest.fixture(scope="module")
def story(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Sweeper and worker are given the same port, as on one machine they are: each finds its own."""
    logs = tmp_path_factory.mktemp("monitoring")
    # Without checkpoints: on a slow machine the second attempt would go on where the first one was
    settings = changed(module_settings, sweep_seconds=0.3, metrics_port=free_port(), checkpoint_seconds=3600)
    faulty = environment(settings) | {"KILN_FAULT": "score:raise"}
    with running_kiln(settings, logs) as kiln, running(["worker"], faulty, logs / "worker.log"):
        wait_for("ready worker", kiln.ready_workers, seconds=240)
        before = _listen(kiln)
        job = kiln.finished(kiln.post(num_inference_steps=5, width=64, height=64)["id"], seconds=240)
        _await_end_of_attempt(kiln)
        return Story(job, before, _listen(kiln))


def _await_end_of_attempt(kiln: Kiln) -> None:
    """The row is written first, and counted then."""
    told_at = _address(kiln.logs / "worker.log")
    attempts = "kiln_worker_attempts_total"
    wait_for("count of the end", lambda: scrape(told_at).sum(attempts, outcome="succeeded"), seconds=30)


def _listen(kiln: Kiln) -> Told:
    return Told(
        api=scrape(kiln.url),
        worker=scrape(_address(kiln.logs / "worker.log")),
        sweeper=scrape(_address(kiln.logs / "sweeper.log")),
    )


def _address(log: Path) -> str:
    """Where a process says that it tells."""
    found = re.search(r"metrics served\s+host=(\S+) port=(\d+)", log.read_text())
    assert found, log.read_text()
    return f"http://{found[1]}:{found[2]}"
