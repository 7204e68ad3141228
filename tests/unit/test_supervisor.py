"""What the supervisor does when a process ends: by a clock of our own, on processes that are real and do nothing."""

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.local import children
from common.local.children import LocalServiceError
from common.local.supervisor import DAMAGED, NOT_RUNNING, NOTHING_ENDED, STARTED_AGAIN, Pace, Program, Supervisor


class Stage:
    """A supervisor, the clock that it goes by, and what it said."""

    def __init__(self, home: Path, **scripts: str) -> None:
        self.home, self.now, self.said = home, 0.0, list[str]()
        programs = [self.program(name, script) for name, script in scripts.items()]
        self.supervisor = Supervisor(programs, self.said.append, Pace(1, 60, 30), lambda: self.now)

    def program(self, name: str, script: str) -> Program:
        """A shell script; ``store`` is a server, which says PANIC of damaged data. "up" in its log means ready."""
        return Program(
            name,
            lambda: children.start(self.home, name, ["sh", "-c", script]),
            lambda child: "up" in child.tail(),
            damage=re.compile("PANIC") if name == "store" else None,
        )

    def settle(self, name: str, state: str) -> None:
        """Look, at the same time by its clock, until the process is in this state."""
        until = time.monotonic() + 20
        while self.supervisor[name].state != state:
            assert time.monotonic() < until, self.supervisor.status()
            self.supervisor.look()
            time.sleep(0.005)

    def pauses(self, name: str, times: int) -> list[float]:
        """How long it waits after each of so many ends."""
        found = []
        for _ in range(times):
            self.supervisor.look()
            self.settle(name, "waiting")
            found.append(self.supervisor[name].due - self.now)
            self.now = self.supervisor[name].due
        return found

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        child = self.supervisor[name].child
        assert child
        child.process.send_signal(signum)
        child.process.wait()


UP = "echo up; exec sleep 600"


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[list[Stage]]:
    made: list[Stage] = []
    yield made
    for stage in made:
        stage.supervisor.stop()


def test_pauses_double_up_to_the_longest() -> None:
    assert [Pace().pause(times) for times in (1, 2, 3, 6, 7, 8, 2000)] == [1, 2, 4, 32, 60, 60, 60]


def test_a_process_that_ends_again_and_again_waits_longer_and_is_told_of_ever_less(
    tmp_path: Path, stages: list[Stage]
) -> None:
    stages.append(stage := Stage(tmp_path, app="kill -SEGV $$"))
    assert stage.pauses("app", 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    times = [1, 2, 4, 8]
    assert len(stage.said) == len(times), stage.said
    assert stage.said[0] == "app ended: killed by SIGSEGV | started again in 1 s"
    assert "(8 times by now)" in stage.said[-1]
    assert stage.supervisor.outcome == NOT_RUNNING


def test_one_that_cannot_start_waits_longest_at_once_and_says_what_it_said(tmp_path: Path, stages: list[Stage]) -> None:
    stages.append(stage := Stage(tmp_path, app="echo error: no such model; echo bye; exit 3"))
    assert stage.pauses("app", 2) == [60, 60]
    assert stage.said[0].startswith("app cannot start: exit code 3: error: no such model | tried again every 60 s")


def test_one_that_did_not_start_while_its_server_was_away_is_tried_again_soon(
    tmp_path: Path, stages: list[Stage]
) -> None:
    stages.append(stage := Stage(tmp_path, store=UP, app="sleep 0.5; exit 1"))
    stage.settle("store", "running")
    stage.kill("store")
    stage.settle("app", "waiting")
    assert stage.supervisor["app"].due - stage.now == 1


def test_a_healthy_while_is_forgiving_and_what_is_back_is_told(tmp_path: Path, stages: list[Stage]) -> None:
    stages.append(stage := Stage(tmp_path, app=UP))
    stage.settle("app", "running")
    assert stage.supervisor.outcome == NOTHING_ENDED
    found = []
    for healthy in (1, 1, 31):
        stage.now += healthy
        stage.supervisor.look()
        stage.kill("app")
        stage.settle("app", "waiting")
        found.append(stage.supervisor["app"].due - stage.now)
        stage.now = stage.supervisor["app"].due
        stage.settle("app", "running")
    assert found == [1, 2, 1]
    # the third time, though forgiven, is not told: what ends every minute of a night must not fill the terminal
    told = [line.partition(":")[0] for line in stage.said]
    assert told == ["app ended", "app runs again", "app ended (2 times by now)", "app runs again"]
    assert stage.supervisor.outcome == STARTED_AGAIN
    assert stage.supervisor.status()["app"]["ended"] == 3


def test_damaged_data_is_left_alone(tmp_path: Path, stages: list[Stage]) -> None:
    stages.append(stage := Stage(tmp_path, store="echo 'PANIC: no checkpoint'; exit 1", app=UP))
    stage.settle("store", "damaged")
    stage.settle("app", "running")
    stage.now += 1000
    stage.supervisor.look()
    assert stage.supervisor["store"].state == "damaged"
    assert stage.supervisor["app"].state == "running"
    assert stage.said == ["store is not started again, for its data is damaged: PANIC: no checkpoint | "]
    assert stage.supervisor.outcome == DAMAGED


def test_a_full_disk_is_no_damage(tmp_path: Path, stages: list[Stage]) -> None:
    stages.append(stage := Stage(tmp_path, store="echo 'PANIC: no checkpoint: No space left on device'; exit 1"))
    assert stage.pauses("store", 2) == [1, 2]
    assert "No space left" in stage.said[0]


def test_what_a_server_logs_while_it_serves_is_no_damage(tmp_path: Path, stages: list[Stage]) -> None:
    """It may be the text of somebody's request."""
    stages.append(stage := Stage(tmp_path, store="echo up; echo 'DETAIL: key PANIC exists'; exec sleep 600"))
    stage.settle("store", "running")
    stage.kill("store")
    stage.settle("store", "waiting")


@pytest.mark.parametrize("error", [LocalServiceError("port 80 is taken"), OSError(28, "No space left on device")])
def test_what_cannot_even_be_started_is_tried_again(tmp_path: Path, error: Exception) -> None:
    def refuse() -> children.Child:
        raise error

    said: list[str] = []
    supervisor = Supervisor([Program("api", refuse, lambda _: True)], said.append)
    supervisor.look()
    assert supervisor["api"].state == "waiting"
    assert str(error) in said[0]


def test_servers_are_stopped_after_all_that_needs_them(tmp_path: Path, stages: list[Stage]) -> None:
    order = tmp_path / "order"
    script = "trap 'echo {0} >> {1}; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    stages.append(stage := Stage(tmp_path, store=script.format("store", order), app=script.format("app", order)))
    stage.settle("store", "running")
    stage.settle("app", "running")
    stage.supervisor.stop()
    assert order.read_text().split() == ["app", "store"]
