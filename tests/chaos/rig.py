"""The rig: a running Kiln in; workers with a fail point, a client that logs its 202s, and the checker's report, out."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4

import httpx2

from common.local.services import Services, running_services
from common.settings import Settings
from tests.chaos.check import Report
from tests.deployment import TERMINAL, Kiln, running_kiln
from tests.processes import environment, running, wait_for

SMALL = {"prompt": "a red apple", "width": 64, "height": 64, "num_inference_steps": 1, "enhance": False}


@dataclass(frozen=True, slots=True)
class Rig:
    """A deployment under test, its client's log, and the servers below it, whose home is ``home``."""

    kiln: Kiln
    log: Path
    services: Services
    home: Path

    def post(self, **body: Any) -> str:
        """Submit one small job, logged before it is sent and when it is accepted. Gives its id."""
        key = uuid4().hex
        self.note({"asked": key})
        answer = httpx2.post(
            f"{self.kiln.url}/v1/jobs", json=SMALL | body, headers={"Idempotency-Key": key}, timeout=30
        )
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["id"]
        self.note({"accepted": job_id, "key": key})
        return job_id

    def note(self, line: dict[str, str]) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def worker(self, name: str, fault: str = "", module: str = "worker") -> Iterator[Popen[bytes]]:
        """A ready worker of one seat, which strikes itself where ``fault``, as point:action, says."""
        variables = environment(self.kiln.settings) | {"KILN_FAULT": fault, "KILN_SEATS": "1", "OMP_NUM_THREADS": "1"}
        with running([module], variables, self.kiln.logs / f"{name}.log") as process:

            def ready() -> bool:
                assert process.poll() is None, self.kiln.tails()
                return process.pid in self.kiln.ready_workers()

            wait_for("ready worker", ready, seconds=120)
            yield process

    def settled(self, jobs: list[str], *, seconds: float = 120) -> None:
        """Wait until every job is over; a checker that is asked earlier would call them lost."""
        wait_for("end", lambda: all(self.kiln.job(job)["status"] in TERMINAL for job in jobs), seconds=seconds)

    def report(self) -> Report:
        """What the checker, a program of its own, says."""
        told = subprocess.run(
            [sys.executable, "-m", "tests.chaos.check", str(self.log)],
            env=environment(self.kiln.settings),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert told.stdout, told.stderr
        found = json.loads(told.stdout)
        return Report(**found | {"violations": tuple(found["violations"])})


def has_stopped(process: Popen[bytes]) -> bool:
    """Whether it is stopped by a signal: proc(5), the state after the name."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@contextmanager
def running_rig(home: Path) -> Iterator[Rig]:
    """A Kiln without workers on servers of its own in ``home``, with leases short enough to watch run out."""
    with running_services(home / "services", durable=False) as services:
        given = {name[5:].lower(): value for name, value in services.environment().items()}
        settings = Settings.model_validate(given | {"lease_seconds": 3, "heartbeat_seconds": 0.5, "sweep_seconds": 0.3})
        subprocess.run(
            [sys.executable, "-m", "migrations"], env=os.environ | services.environment(), check=True, timeout=120
        )
        with running_kiln(settings, home) as kiln:
            yield Rig(kiln, home / "client.jsonl", services, home / "services")
    if (noted := home / "services" / "postgres.place").exists():  # as root the database lay elsewhere
        shutil.rmtree(noted.read_text())
