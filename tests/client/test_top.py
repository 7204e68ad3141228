"""`kiln top` on the running stack: one frame for scripts, a live view on a real terminal, and an API that is away."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from client.api import Kiln
from client.top import Paces
from tests.client.conftest import KILN, Command
from tests.processes import free_port

PATIENCE = 90  # seconds: a terminal is slow on a machine that is busy


@pytest.fixture
def batch(api: Kiln) -> Iterator[str]:
    """Two long jobs, paused."""
    line = json.dumps({"prompt": "a cat", "num_inference_steps": 500}) + "\n"
    made = api.submit_batch(line.encode(), seeds_per_line=2, name="for later")
    api.steer(made["id"], "pause")
    yield made["id"]
    api.steer(made["id"], "cancel")


class Terminal:
    """`kiln top` on a terminal of its own, and what it has drawn there so far."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self.process = process
        self.drawn = ""

    def see(self, text: str) -> None:
        """Wait until it has drawn ``text``."""
        end = time.monotonic() + PATIENCE
        while text not in self.drawn:
            assert time.monotonic() < end, f"no {text!r} in {self.drawn[-2000:]!r}"
            if select.select([self._descriptor], [], [], 0.2)[0]:
                self.drawn += re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", os.read(self._descriptor, 65536).decode())


@contextmanager
def terminal(kiln: Command, *arguments: str, columns: int = 100, **environment: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [KILN, "top", *arguments],
        env=kiln.environment | {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"} | environment,
        cwd=kiln.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_one_frame_has_lanes_workers_and_the_batches_that_are_not_over(kiln: Command, api: Kiln, batch: str) -> None:
    done = kiln("top", "--once")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    (worker,) = api.workers()["data"]
    assert [worker["id"], "ready", "cpu"] in [line[:3] for line in lines]
    assert [batch, "paused", "0/2"] in [line[:3] for line in lines]
    assert {line[0] for line in lines if line} >= {"interactive", "batch"}
    api.steer(batch, "cancel")
    assert batch not in kiln("top", "--once").stdout


def test_a_narrow_terminal_cuts_ids_and_keeps_numbers(kiln: Command, batch: str) -> None:
    with terminal(kiln, "--once", columns=50) as narrow:
        narrow.see("0/2")
        narrow.see("batch_")
        assert batch not in narrow.drawn
        assert "for later" not in narrow.drawn
        assert max(len(line) for line in narrow.drawn.splitlines()) <= 50


def test_with_json_it_is_one_document(kiln: Command, batch: str) -> None:
    frame = json.loads(kiln("top", "--json").stdout)
    assert frame["lanes"].keys() == {"interactive", "batch"}
    assert batch in [one["id"] for one in frame["batches"]]
    assert [worker["state"] for worker in frame["workers"]] == ["ready"]


def test_the_view_follows_what_happens_until_ctrl_c(kiln: Command, api: Kiln) -> None:
    with terminal(kiln, "--every", "0.5") as live:
        live.see("oldest waits")
        job = api.submit("a lighthouse\nin [bold]fog", num_inference_steps=500)
        live.see(job["id"])
        live.see("a lighthouse in [bold]fog")
        live.see("diffuse")
        api.cancel(job["id"])
        live.process.send_signal(signal.SIGINT)
        live.see("Kiln goes on.")
        assert live.process.wait(timeout=PATIENCE) == 0


def test_an_api_that_is_away_is_told_and_asked_again(kiln: Command) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    done = kiln("top", "--once", KILN_API_URL=away)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"Nobody answers at {away}" in done.stderr
    with terminal(kiln, "--every", "0.5", KILN_API_URL=away) as live:
        live.see(f"Nobody answers at {away}")
        live.see("Trying again")
        assert live.process.poll() is None


def test_a_batch_moves_at_the_pace_seen_and_before_that_at_its_own() -> None:
    paces = Paces()
    waiting = {"id": "b", "status": "queued", "started_at": None, "progress": {"done": 0}}
    begun = waiting | {"status": "running", "started_at": "2020-01-01T00:00:00Z", "progress": {"done": 10**9}}
    assert paces.of(waiting) is None
    assert paces.of(begun | {"id": "other"}) == pytest.approx(10**9 / (time.time() - 1577836800), rel=0.01)
    paces.seen["b"] = (time.monotonic() - 10, 0)
    assert paces.of(waiting | {"progress": {"done": 50}}) == pytest.approx(5, rel=0.2)
    assert paces.of(waiting) is None
