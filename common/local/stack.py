"""The whole of Kiln on one machine: a home folder in; servers, API, sweeper and workers running, and run.json, out."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from common.local import children
from common.local.children import Child, LocalServiceError
from common.local.ports import free_ports
from common.local.services import Services, running_services, write_private

READY_SECONDS = 120  # the first import of torch from a cold disk takes its time


@dataclass(frozen=True, slots=True)
class Stack:
    """A running Kiln: where it answers, and the processes it consists of."""

    api_url: str
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
    with ExitStack() as stack:
        stack.enter_context(_only_one(home))
        services = stack.enter_context(running_services(home, postgres_programs=postgres_programs))
        environment = os.environ | services.environment() | {"KILN_HOME": str(home)}
        if model:
            environment["KILN_MODEL"] = model
        migrate(environment)
        port = port or free_ports(1)[0]
        started: list[Child] = []

        def launch(name: str, *command: str) -> Child:
            child = children.start(home, name, [sys.executable, "-m", *command], environment=environment)
            stack.callback(child.stop)
            started.append(child)
            return child

        # Stopped in the reverse order: workers drain first, while everything they need still runs
        api = launch("api", "api", "--host", "127.0.0.1", "--port", str(port))
        launch("sweeper", "worker.sweeper")
        fleet = [launch(f"worker-{number}" if workers > 1 else "worker", "worker") for number in range(1, workers + 1)]
        url = f"http://127.0.0.1:{port}"
        api.wait_until(lambda: _answer(f"{url}/readyz") is not None, seconds=READY_SECONDS)
        for worker in fleet:
            worker.wait_until(lambda pid=worker.process.pid: _is_ready(url, pid), seconds=READY_SECONDS)  # type: ignore[misc]
        stack.enter_context(_run_file(home, url, services, started))
        yield Stack(url, services, tuple(started))


def migrate(environment: Mapping[str, str]) -> None:
    """Bring the database to the newest schema. Raises LocalServiceError."""
    ended = subprocess.run(
        [sys.executable, "-m", "migrations"], env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise LocalServiceError(f"the migration failed\n{ended.stderr[-2000:]}")


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
        yield


@contextmanager
def _run_file(home: Path, url: str, services: Services, started: list[Child]) -> Iterator[None]:
    """run.json during the block: every URL with its credentials, and the process ids, for scripts and tests."""
    path = home / "run.json"
    content = {
        "api": url,
        "database": services.database_url,
        "broker": services.broker_url,
        "storage": {
            "endpoint_url": services.s3_endpoint_url,
            "access_key": services.s3_access_key,
            "secret_key": services.s3_secret_key,
            "bucket": os.environ.get("KILN_S3_BUCKET", "kiln"),
        },
        "pids": {"up": os.getpid()} | services.pids | {child.name: child.process.pid for child in started},
    }
    write_private(path, content)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _is_ready(url: str, pid: int) -> bool:
    """Has the worker of this process id said that it is ready? Its id is host:pid:random."""
    answer = _answer(f"{url}/v1/workers")
    workers = answer.json()["data"] if answer else []
    return any(worker["state"] == "ready" and worker["id"].split(":")[-2] == str(pid) for worker in workers)


def _answer(url: str) -> httpx2.Response | None:
    """The answer where it is 200. With API keys set, the first of them is shown."""
    key = os.environ.get("KILN_API_KEYS", "").split(",")[0].partition(":")[2]
    try:
        answer = httpx2.get(url, timeout=5, headers={"Authorization": f"Bearer {key}"} if key else {})
    except httpx2.HTTPError:
        return None
    return answer if answer.status_code == 200 else None
