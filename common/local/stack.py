"""The whole of Kiln on one machine: a home folder in; servers, API, sweeper and workers running, and run.json, out."""

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from sqlalchemy import Engine

from common.db import make_engine
from common.jobs.workers import list_workers
from common.local import children
from common.local.children import Child, LocalServiceError
from common.local.ports import free_ports
from common.local.services import Services, started_services, write_private
from common.settings import Settings, read_settings

READY_SECONDS = 120  # the first import of torch from a cold disk takes its time


@dataclass(frozen=True, slots=True)
class Stack:
    """A running Kiln: where it answers, the key of KILN_API_KEY, and the processes it consists of."""

    api_url: str
    api_key: str | None
    services: Services
    children: tuple[Child, ...]

    def dead(self) -> Child | None:
        """A process that ended by itself, if any did."""
        return next((child for child in self.children if child.process.poll() is not None), None)


@contextmanager
def running_stack(
    home: Path, *, port: int = 0, workers: int = 1, model: str = "", postgres_programs: Path | None = None
) -> Iterator[Stack]:
    """Kiln during the block; every process that it started is gone after it. ``port`` 0 picks a free one.

    Raises LocalServiceError where a part does not start, or another Kiln runs in this home.
    """
    home.mkdir(parents=True, exist_ok=True)
    home = home.resolve()
    port = port or free_ports(1)[0]
    with _only_one(home), ExitStack() as stack:
        children.end_leftovers(home)
        stack.callback(children.end_leftovers, home)  # one that was interrupted as it was started
        # What takes longest to import comes first; the servers start meanwhile
        fleet = _start_early(stack, home, {name: ["worker.celery_app"] for name in _names(workers)})
        [migrations] = _start_early(stack, home, {"migrations": ["migrations.__main__"]})
        api_command = ["api.__main__", "--host", "127.0.0.1", "--port", str(port)]
        api, sweeper = _start_early(stack, home, {"api": api_command, "sweeper": ["worker.sweeper"]})
        started = (api, sweeper, *fleet)
        services = stack.enter_context(started_services(home, postgres_programs=postgres_programs))
        stack.callback(children.stop_all, started)  # before the servers: workers drain while all they need still runs
        environment = services.environment() | {"KILN_HOME": str(home)} | ({"KILN_MODEL": model} if model else {})
        settings = read_settings(Settings, **{name[5:].lower(): value for name, value in environment.items()})
        _go([migrations], environment)
        migrations.wait_until(lambda: migrations.process.poll() == 0, seconds=READY_SECONDS)
        _go(started, environment)
        made = Stack(f"http://127.0.0.1:{port}", os.environ.get("KILN_API_KEY"), services, started)
        _wait_until_ready(made, api, fleet)
        stack.enter_context(_run_file(home, made, settings.s3_bucket))
        yield made


def _names(workers: int) -> list[str]:
    return ["worker"] if workers == 1 else [f"worker-{number}" for number in range(1, workers + 1)]


def _start_early(stack: ExitStack, home: Path, commands: dict[str, list[str]]) -> list[Child]:
    """Start each to import what it needs and wait for _go(); see early.py."""
    started = []
    for name, command in commands.items():
        child = children.start(home, name, [sys.executable, "-m", "common.local.early", *command], listens=True)
        stack.callback(child.stop)
        started.append(child)
    return started


def _go(waiting: Sequence[Child], environment: dict[str, str]) -> None:
    for child in waiting:
        child.tell(json.dumps(environment) + "\n")


def _wait_until_ready(made: Stack, api: Child, fleet: Sequence[Child]) -> None:
    """Raises LocalServiceError where the API or a worker ends, or is not ready in time."""
    api.wait_until(lambda: _answers(made.api_url), seconds=READY_SECONDS)
    engine = make_engine(made.services.database_url, name="kiln-up", pool_size=1)
    try:
        for worker in fleet:
            pid = worker.process.pid
            worker.wait_until(lambda pid=pid: pid in _ready_workers(engine), seconds=READY_SECONDS)  # type: ignore[misc]
    finally:
        engine.dispose()


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the home's lock; it goes with the process, however that ends."""
    with (home / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LocalServiceError(
                f"Kiln runs in {home} already (process {lock.read().strip()}); {home / 'run.json'} tells where"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        (home / "run.json").unlink(missing_ok=True)  # a killed one's
        yield


@contextmanager
def _run_file(home: Path, made: Stack, bucket: str) -> Iterator[None]:
    """run.json during the block: every URL with its credentials, and the process ids, for scripts and tests."""
    path, services = home / "run.json", made.services
    content = {
        "api": made.api_url,
        "database": services.database_url,
        "broker": services.broker_url,
        "storage": {
            "endpoint_url": services.s3_endpoint_url,
            "access_key": services.s3_access_key,
            "secret_key": services.s3_secret_key,
            "bucket": bucket,
        },
        "pids": {"up": os.getpid()} | services.pids | {child.name: child.process.pid for child in made.children},
    }
    write_private(path, content)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _ready_workers(engine: Engine) -> set[int]:
    """Process ids of the workers that say they are ready: a worker's id is host:pid:random.

    Read from the database, for the API may ask for a key, and nobody but its owner has one.
    """
    live = list_workers(engine, alive_seconds=READY_SECONDS)
    return {int(worker.id.split(":")[-2]) for worker in live if worker.state == "ready"}


def _answers(url: str) -> bool:
    """Whether the API says that it can work."""
    try:
        return httpx2.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False
