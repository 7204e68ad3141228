"""What a killed parent leaves behind is ended at the next start; what merely has its number is not."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.local.children import Child, end_leftovers, start


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
