"""What a killed parent leaves behind is ended at the next start; what merely has its number is not."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from common.local.children import Child, end_leftovers, start
from tests.local.up import environment


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Child]:
    child = start(tmp_path, "sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
    yield child
    child.process.kill()
    child.process.wait()


def test_a_process_that_was_written_down_is_ended(tmp_path: Path, sleeper: Child) -> None:
    end_leftovers(tmp_path)
    sleeper.process.wait(timeout=5)
    assert not (tmp_path / "children.json").exists()


def test_kiln_down_ends_what_a_killed_kiln_left_behind_and_says_that_none_runs(tmp_path: Path, sleeper: Child) -> None:
    command = [sys.executable, "-m", "client", "down", "--home", str(tmp_path)]
    told = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr.strip()) == (3, f"No Kiln runs in {tmp_path}.")
    sleeper.process.wait(timeout=5)


def test_a_later_process_with_the_same_number_lives_on(tmp_path: Path, sleeper: Child) -> None:
    written = tmp_path / "children.json"
    [(name, (pid, born))] = json.loads(written.read_text()).items()
    assert (name, pid) == ("sleeper", sleeper.process.pid)
    written.write_text(json.dumps({name: [pid, f"{born}0"]}))
    end_leftovers(tmp_path)
    assert sleeper.process.poll() is None


def test_a_process_deaf_to_signals_is_ended_all_the_same(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); time.sleep(9)"
    child = start(tmp_path, "deaf", [sys.executable, "-c", code])
    child.wait_until(lambda: "deaf" in child.tail(), seconds=10)
    end_leftovers(tmp_path, seconds=0.3)
    assert child.process.wait(timeout=1) == -9


def test_one_that_ended_before_its_birth_was_known_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "children.json").write_text(json.dumps({"brief": [2**22 + 1, ""]}))
    end_leftovers(tmp_path, seconds=0.3)
    assert not (tmp_path / "children.json").exists()


def test_an_interrupt_while_children_start_leaves_none_that_is_not_written_down(tmp_path: Path) -> None:
    for number in range(20):
        _interrupted_start(tmp_path, f"sleeper-{number}", seconds=number / 4000)
    ours = [one for one in psutil.Process().children() if _lives_in(tmp_path, one)]
    try:
        written = {pid for pid, _ in json.loads((tmp_path / "children.json").read_text()).values()}
        assert ours
        assert {one.pid for one in ours} == written
        end_leftovers(tmp_path)
        assert not [one for one in ours if _lives_in(tmp_path, one)]
    finally:
        for one in ours:
            one.kill()


def _interrupted_start(folder: Path, name: str, *, seconds: float) -> None:
    interrupt = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    try:
        interrupt.start()
        child = start(folder, name, ["sleep", "600"], folder=folder)
        time.sleep(10)  # until the interrupt, where the start was faster
        del child  # here: what interrupts a destructor is lost
    except KeyboardInterrupt:
        return
    pytest.fail("the interrupt was lost")


def _lives_in(folder: Path, process: psutil.Process) -> bool:
    try:
        return process.cwd() == str(folder)
    except psutil.Error:  # it has ended
        return False
