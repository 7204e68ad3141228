"""Kiln's own processes for tests: started with exactly the commands users run, awaited, and ended by their ids."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
from pydantic import SecretStr

from common.settings import Settings


def wait_for(what: str, check: Callable[[], object], *, seconds: float = 30) -> None:
    """Wait until ``check`` returns something true; fail with the last thing seen otherwise.

    ``seconds`` are a quiet machine's: see slowness().
    """
    began = time.monotonic()
    while True:
        late = time.monotonic() - began > seconds * slowness()  # asked before the last look, not after it
        seen: object
        try:
            seen = check()
        except (OSError, httpx2.HTTPError) as error:
            seen = error
        else:
            if seen:
                return
        if late:
            raise AssertionError(f"no {what} within {time.monotonic() - began:.0f} s; last seen: {seen!r}")
        time.sleep(0.05)


def slowness() -> float:
    """How many times as long as on a quiet machine anything may take here and now: the load of each core."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def environment(settings: Settings) -> dict[str, str]:
    """The variables that make these settings in another process."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        match value:
            case SecretStr():
                text = value.get_secret_value()
            case list():
                text = ",".join(value)
            case _:
                text = str(value)
        given[f"KILN_{name.upper()}"] = text
    return given


@contextmanager
def running(command: list[str], variables: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m ...`` during the block; SIGTERM at its end, SIGKILL if that is not heeded."""
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", *command], env=variables, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running_api(settings: Settings, log: Path, **variables: str) -> Iterator[str]:
    """The API on a free loopback port; gives its base URL once it answers."""
    port = free_port()
    command = ["api", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, environment(settings) | variables, log) as process:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            return httpx2.get(f"{url}/healthz").status_code == 200

        wait_for("API", answers, seconds=90)
        yield url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def changed(settings: Settings, **changes: object) -> Settings:
    """The settings with some of them changed, and known to be given."""
    made = settings.model_copy(update=changes)
    made.model_fields_set.update(changes)
    return made
