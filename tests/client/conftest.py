"""The real `kiln` executable, and the Python client, on a running stack."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from client.api import Kiln
from common.objects import Objects
from common.settings import Settings
from tests.processes import environment, running, running_api

KILN = Path(sys.executable).with_name("kiln")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Command:
    """`kiln` in a folder of its own, with the environment of the running stack."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end, without a terminal."""
        return subprocess.run(
            [KILN, *arguments],
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments: str, stderr: int = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
        """Run without waiting."""
        return subprocess.Popen(
            [KILN, *arguments],
            env=self.environment | environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 30) -> T:
    """What ``look`` finds, once it finds something; fails with the last thing seen."""
    end = time.monotonic() + seconds
    while (seen := look()) is None:
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return seen


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the API answers, and the variables with which its processes run."""

    api: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def stack(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """API, worker and sweeper on real servers, ready for jobs."""
    logs = tmp_path_factory.mktemp("stack")
    variables = environment(module_settings)
    Objects.from_settings(module_settings).ensure_bucket()
    with (
        running_api(module_settings, logs / "api.log") as url,
        running(["worker"], variables, logs / "worker.log"),
        running(["worker.sweeper"], variables, logs / "sweeper.log"),
        Kiln(url) as client,
    ):
        wait_for(lambda: ready_worker(client), f"a worker; see {logs}", seconds=60)
        yield Stack(url, variables)


def ready_worker(client: Kiln) -> str | None:
    return next((worker["id"] for worker in client.workers()["data"] if worker["state"] == "ready"), None)


@pytest.fixture
def kiln(stack: Stack, tmp_path: Path) -> Command:
    return Command(tmp_path, stack.environment | {"KILN_API_URL": stack.api})


@pytest.fixture
def api(stack: Stack) -> Iterator[Kiln]:
    with Kiln(stack.api) as client:
        yield client
