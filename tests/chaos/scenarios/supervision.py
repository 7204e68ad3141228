"""C14: `kiln up` with nobody at the keyboard, each of its processes killed in each round. Every job over on return."""

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import httpx2

from client.doctor import run_settings
from common.db import make_engine
from common.local.services import Services
from common.local.supervisor import STARTED_AGAIN
from common.settings import Settings
from tests.chaos.check import Report
from tests.chaos.rig import Rig
from tests.deployment import Kiln
from tests.local.up import Up, running_up
from tests.processes import wait_for

PROCESSES = ("postgres", "redis", "s3", "api", "sweeper", "worker-1", "worker-2")
STORAGE = ("endpoint_url", "access_key", "secret_key")
PACE = "1,60,2"  # forgiven after 2 s instead of 30: there are 20 rounds to be done


def kills(rig: Rig, rounds: int) -> None:
    """C14: jobs are posted, patiently, around each kill; after each round all run. Its Kiln stands beside the rig's."""
    known = rig.kiln.settings
    settings = {
        "KILN_LEASE_SECONDS": str(known.lease_seconds),
        "KILN_HEARTBEAT_SECONDS": str(known.heartbeat_seconds),
        "KILN_SWEEP_SECONDS": str(known.sweep_seconds),
        "KILN_MAX_FAILURES": "20",  # the kills, not the jobs, end workers
    }
    folder = rig.home.parent / "supervised"
    with (
        running_up(folder, "--workers", "2", module="tests.local.light", LIGHT_PACE=PACE, **settings) as up,
        seen(up) as supervised,
    ):
        try:
            for _ in range(rounds):
                kill_each(up, supervised)
            supervised.emptied()
        finally:
            place(rig).write_text(json.dumps(asdict(supervised.report())))
        ended = {name: process["ended"] for name, process in up.run_file()["processes"].items()}
        assert ended == dict.fromkeys(PROCESSES, rounds), ended
        assert up.end(signal.SIGTERM) == STARTED_AGAIN, up.said()


def kill_each(up: Up, supervised: Rig) -> None:
    """In a new order; the next one while those before it are being started again."""
    for name in random.sample(PROCESSES, len(PROCESSES)):
        for _ in range(2):
            supervised.post_patiently()
        os.kill(up.run_file()["pids"][name], signal.SIGKILL)

    def all_run() -> bool:
        run = up.run_file()
        return set(PROCESSES) <= run["pids"].keys() and all(
            process["state"] == "running" for process in run["processes"].values()
        )

    wait_for("restart of all", all_run, seconds=120)


@contextmanager
def seen(up: Up) -> Iterator[Rig]:
    """A rig whose Kiln is this one."""
    run = up.run_file()
    kiln = Kiln(run["api"], Settings.model_validate(run_settings(run, {})), up.home / "logs")
    services = Services(run["database"], run["broker"], *(run["storage"][name] for name in STORAGE), pids={})
    engine = make_engine(run["database"], name="kiln-chaos", pool_size=1)
    with httpx2.Client(base_url=run["api"], timeout=10) as client:
        yield Rig(kiln, up.folder / "client.jsonl", services, up.home, client, engine, {})
    engine.dispose()
    if (noted := up.home / "postgres.place").exists():  # as root the database lay elsewhere
        shutil.rmtree(noted.read_text())


def report(rig: Rig) -> Report:
    """What the checker said while that Kiln still ran."""
    said = json.loads(place(rig).read_text())
    return Report(**said | {"violations": tuple(said["violations"])})


def place(rig: Rig) -> Path:
    return rig.home.parent / "report.json"
