"""Kiln's own processes: addresses and passwords in; API, sweeper and workers as programs that can be started, out."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import httpx2
from sqlalchemy import Engine

from common.db import make_engine
from common.errors import Unavailable
from common.jobs.workers import list_workers
from common.local import children
from common.local.children import Child, LocalServiceError
from common.local.ports import answers
from common.local.supervisor import Program

WORKER = "worker.celery_app"
READY_SECONDS = 120
_ASK_SECONDS = 0.1  # between two questions to the database, which workers are ready


class Launcher:
    """Starts processes at once, and lets them begin when they can: see early.py. Before open() they only import."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._home, self._environment = home, environment
        self._waiting: list[Child] = []
        self._engine: Engine | None = None
        self._asked, self._ready = 0.0, set[int]()
        self.opened = False

    def start(self, name: str, command: Sequence[str], variables: Mapping[str, str] | None = None) -> Child:
        """``variables`` are in its environment from the start, before it imports anything."""
        early = [sys.executable, "-m", "common.local.early", *command]
        child = children.start(self._home, name, early, environment=os.environ | (variables or {}), listens=True)
        if self.opened:
            self.tell(child)
        else:
            self._waiting.append(child)
        return child

    def tell(self, child: Child) -> None:
        """Let this one begin."""
        if child in self._waiting:
            self._waiting.remove(child)
        child.tell(json.dumps(dict(self._environment)) + "\n")

    def open(self) -> None:
        """Let all begin, those too that are started later."""
        self.opened = True
        for child in list(self._waiting):
            self.tell(child)

    def ready_workers(self) -> set[int]:
        """Process ids of the workers that say they are ready: a worker's id is host:pid:random.

        Read from the database, for the API may ask for a key, and nobody but its owner has one.
        """
        if time.monotonic() - self._asked > _ASK_SECONDS:
            self._asked = time.monotonic()
            self._engine = self._engine or make_engine(
                self._environment["KILN_DATABASE_URL"], name="kiln-up", pool_size=1
            )
            try:
                live = list_workers(self._engine, alive_seconds=READY_SECONDS)
            except Unavailable:
                live = []
            self._ready = {int(worker.id.split(":")[-2]) for worker in live if worker.state in ("ready", "unready")}
        return self._ready

    def close(self) -> None:
        for child in self._waiting:
            child.stop()
        if self._engine:
            self._engine.dispose()


def app_programs(launcher: Launcher, *, port: int, workers: int, gpus: Sequence[str]) -> list[Program]:
    """Workers, API and sweeper, in the order in which they should be started: what imports longest comes first."""

    def program(
        name: str, command: list[str], ready: Callable[[Child], bool], variables: Mapping[str, str] | None = None
    ) -> Program:
        begin = partial(launcher.start, name, command, variables)
        return Program(name, begin, lambda child: launcher.opened and ready(child))

    def start_api() -> Child:
        if answers(port):  # whoever answers there would be taken for ours
            raise LocalServiceError(f"port {port} of 127.0.0.1 is taken by another process")
        return launcher.start("api", ["api.__main__", "--host", "127.0.0.1", "--port", str(port)])

    names = ["worker"] if workers == 1 else [f"worker-{number}" for number in range(1, workers + 1)]
    fleet = [
        program(
            name,
            [WORKER],
            lambda child: child.process.pid in launcher.ready_workers(),
            {"KILN_WORKERS": str(workers)} | ({"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}),
        )
        for place, name in enumerate(names)
    ]
    api = Program("api", start_api, lambda _: launcher.opened and _answers(port))
    sweeper = program("sweeper", ["worker.sweeper"], lambda _: True)
    return [*fleet, api, sweeper]


def _answers(port: int) -> bool:
    """Whether the API's process answers. What it finds of the servers is another question, and their own affair."""
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/healthz", timeout=2, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False
