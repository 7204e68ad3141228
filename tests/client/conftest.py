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
from tests.deployment import Kiln as Deployment
from tests.processes import environment

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


@pytest.fixture(scope="session")
def stack(served: Deployment) -> Stack:
    """API, worker and sweeper on real servers, ready for jobs."""
    return Stack(served.url, environment(served.settings))


@pytest.fixture
def kiln(stack: Stack, tmp_path: Path) -> Command:
    return Command(tmp_path, stack.environment | {"KILN_API_URL": stack.api})


@pytest.fixture
def api(stack: Stack) -> Iterator[Kiln]:
    with Kiln(stack.api) as client:
        yield client
