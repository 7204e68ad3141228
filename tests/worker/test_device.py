"""The device thread: one, in order of arrival, without gradients, and honest about how long it has been busy."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from common.errors import OutOfDeviceMemory
from tests.processes import wait_for
from tests.rules.test_imports import HEAVY
from worker.diffusion import device as device_module
from worker.diffusion.device import Device


@pytest.fixture
def device() -> Iterator[Device]:
    """A device thread of the test's own."""
    thread = Device()
    yield thread
    thread.close()


def test_calls_of_many_threads_run_on_one_thread_in_the_order_in_which_they_came(device: Device) -> None:
    ran: list[tuple[int, str]] = []

    def call(number: int) -> Callable[[], None]:
        return lambda: ran.append((number, threading.current_thread().name))

    with ThreadPoolExecutor(8) as callers, occupied(device, callers):
        for number in range(7):
            callers.submit(device.run, call(number))
            wait_for(f"call {number} to arrive", partial(arrived, device, number + 1), seconds=5)
        assert ran == []

    assert [number for number, _ in ran] == list(range(7))
    assert {name.split("_")[0] for _, name in ran} == {"device"}
    assert len({name for _, name in ran}) == 1


def test_no_two_calls_overlap(device: Device) -> None:
    inside = threading.Lock()

    def call() -> bool:
        alone = inside.acquire(blocking=False)
        if alone:
            time.sleep(0.001)  # room for another to come in
            inside.release()
        return alone

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(lambda _: device.run(call), range(50)))


def test_what_a_call_raises_comes_back_to_its_caller_and_the_next_call_runs(device: Device) -> None:
    problem = ValueError("in the call")

    def fail() -> None:
        raise problem

    with pytest.raises(ValueError, match="in the call") as caught:
        device.run(fail)

    assert caught.value is problem
    assert device.busy_seconds() == 0
    assert device.run(lambda: "next") == "next"


def test_busy_seconds_grow_during_a_call_and_are_nothing_after_it(device: Device) -> None:
    assert device.busy_seconds() == 0
    with ThreadPoolExecutor(1) as callers, occupied(device, callers):
        wait_for("a busy device", lambda: device.busy_seconds() > 0, seconds=5)
        first = device.busy_seconds()
        wait_for("more busy seconds", lambda: device.busy_seconds() > first + 0.05, seconds=5)
        assert device.figures.busy_seconds == 0, "a call counts once it has ended"

    assert device.busy_seconds() == 0
    assert device.figures.busy_seconds > first + 0.05


def test_each_try_is_timed_by_itself(device: Device) -> None:
    """What goes on after memory ran out took as long as a stall, all of it together: the watchdog ended the worker."""
    seen: list[float] = []

    def run_out() -> None:
        seen.append(device.busy_seconds())
        time.sleep(0.2)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfDeviceMemory):
        device.run(run_out)

    assert len(seen) == 2, "it is tried once more"
    assert max(seen) < 0.2


def test_each_call_is_timed_by_itself(device: Device) -> None:
    """A job of a thousand short steps is no stall."""
    totals = []
    for _ in range(3):
        with ThreadPoolExecutor(1) as callers, occupied(device, callers):
            wait_for("a busy device", lambda: device.busy_seconds() > 0.05, seconds=5)
        totals.append(device.figures.busy_seconds)

    assert totals == sorted(totals)
    assert device.run(device.busy_seconds) < totals[-1]


def test_idle_time_counts_by_its_cause_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape in the middle of a long wait that shows none."""
    monkeypatch.setattr(device_module, "IDLE_SECONDS", 0.05)
    jobs: list[str] = []
    device = Device(has_jobs=lambda: bool(jobs))
    idle = device.figures.idle_seconds

    wait_for("idle time", lambda: idle["no_jobs"] > 0.1, seconds=5)
    assert idle["between_stages"] == 0
    jobs.append("one")
    wait_for("idle time of a job", lambda: idle["between_stages"] > 0, seconds=5)
    waited = idle["no_jobs"]
    wait_for("more of it", lambda: idle["between_stages"] > 0.1, seconds=5)
    assert idle["no_jobs"] == waited

    with ThreadPoolExecutor(1) as callers, occupied(device, callers):
        before = dict(idle)
        wait_for("a busy device", lambda: device.busy_seconds() > 0.2, seconds=5)
        assert idle == before, "who works does not wait"
    device.close()


def test_calls_keep_no_gradients_and_leave_the_callers_thread_alone(device: Device) -> None:
    weight = torch.ones(3, requires_grad=True)

    result = device.run(lambda: weight * 2)

    assert not result.requires_grad
    assert (weight * 2).requires_grad


def test_asking_for_the_device_brings_torch_along_and_no_model_library() -> None:
    """`kiln doctor` took three times as long."""
    program = "import sys, worker.hardware; sys.stdout.write(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert HEAVY & set(loaded) == {"torch"}


@contextmanager
def occupied(device: Device, callers: ThreadPoolExecutor) -> Iterator[None]:
    """The device runs one call, from the block's beginning to its end."""
    began, end = threading.Event(), threading.Event()

    def call() -> None:
        began.set()
        assert end.wait(timeout=30)

    done = callers.submit(device.run, call)
    assert began.wait(timeout=5)
    try:
        yield
    finally:
        end.set()
        done.result(timeout=5)


def arrived(device: Device, count: int) -> bool:
    """So many calls wait."""
    return len(device._calls) == count
