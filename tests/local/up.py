"""``kiln up`` for tests: started as a person starts it, seen through run.json, and ended with all that it started."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil

from tests.processes import wait_for


@dataclass(frozen=True, slots=True)
class Up:
    """A ``kiln up`` in ``folder``; what it says goes to ``folder``/said."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run_file(self) -> dict[str, Any]:
        """run.json, once it is there: its own, not what a killed one left."""
        run: dict[str, Any] = {}

        def written() -> bool:
            assert self.process.poll() is None, self.said()
            if (self.home / "run.json").exists():
                run.update(json.loads((self.home / "run.json").read_text()))
            return bool(run) and run["pids"]["up"] == self.process.pid

        wait_for("run.json", written, seconds=60)
        return run

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def family(self) -> list[psutil.Process]:
        """It and everything that descends from it."""
        itself = psutil.Process(self.process.pid)
        return [itself, *itself.children(recursive=True)]

    def told(self) -> dict[str, Any]:
        """How `kiln status` says that it fares."""
        command = [sys.executable, "-m", "client", "status", "--home", "home", "--json"]
        asked = subprocess.run(command, cwd=self.folder, env=environment(), capture_output=True, text=True, check=False)
        told: dict[str, Any] = json.loads(asked.stdout)
        return told | {"exit": asked.returncode}

    def end(self, signum: int = signal.SIGINT) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signum)
        return self.process.wait(timeout=30)


@contextmanager
def running_up(folder: Path, *arguments: str, module: str = "client", **settings: str) -> Iterator[Up]:
    """``kiln up`` during the block. Whatever is left of it then is killed: a test that failed must leave nothing.

    With ``module`` tests.local.light its workers paint noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "said").open("ab") as said:
        command = [sys.executable, "-m", module, "up", "--home", "home", *arguments]
        process = subprocess.Popen(command, cwd=folder, env=environment(**settings), stdout=said, stderr=said)
    up = Up(folder, process)
    try:
        yield up
    finally:
        if process.poll() is None:
            family = up.family()
            process.send_signal(signal.SIGINT)
            psutil.wait_procs(family, timeout=15)
            for one in family:
                if one.is_running():
                    one.kill()
        process.wait()


def environment(**settings: str) -> dict[str, str]:
    """The environment with these KILN_* settings and no others."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
    return given | {"PYTHONPATH": str(Path(__file__).parents[2])} | settings


def wait_until_gone(processes: list[psutil.Process]) -> None:
    wait_for("end of every process", lambda: not any(alive(one) for one in processes), seconds=10)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def finished(api: str, job_id: str, headers: dict[str, str]) -> dict[str, Any]:
    """The job, once it succeeded."""
    job: dict[str, Any] = {}

    def done() -> bool:
        job.update(httpx2.get(f"{api}/v1/jobs/{job_id}", headers=headers).json())
        assert job["status"] not in ("failed", "canceled", "expired"), job
        return bool(job["status"] == "succeeded")

    wait_for(f"success of {job_id}", done, seconds=60)
    return job
