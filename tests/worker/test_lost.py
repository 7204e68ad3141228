"""A worker whose device fails for good: it ends with code 70, its jobs go back uncharged, and another does them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Engine, text

from common.db import reading
from common.errors import DeviceLost
from tests.chaos.crew import Painter, ending, start_painter
from tests.jobs.make import submit
from tests.processes import changed, environment, wait_for
from tests.worker.injected import illegal_access, shape_bug
from worker.diffusion import faults
from worker.diffusion.device import Device
from worker.diffusion.guard import Guard
from worker.diffusion.slots import Width
from worker.heartbeat import STALLED_EXIT_CODE, Heartbeat
from worker.run import run
from worker.workshop import Workshop


def rows(engine: Engine, *columns: str) -> list[tuple[Any, ...]]:
    """These columns of each job, oldest first."""
    with reading(engine) as connection:
        found = connection.execute(text("SELECT * FROM jobs ORDER BY id")).mappings()
        return [tuple(row[column] for column in columns) for row in found]


@contextmanager
def failing(workshop: Workshop, error: BaseException) -> Iterator[list[str]]:
    """A device of the workshop's own whose every U-Net call raises ``error``; what is lost, once it is."""
    lost: list[str] = []
    workshop.device = device = Device(Width(2, exact=False))
    device.guard.on_loss = lambda: lost.append(device.guard.lost)

    def strike(*_: object) -> None:
        raise error

    hook = workshop.models["demo"].unet.register_forward_pre_hook(strike)
    try:
        yield lost
    finally:
        hook.remove()
        device.close()


def test_jobs_of_a_lost_device_go_back_uncharged_and_none_is_claimed(workshop: Workshop) -> None:
    for seed in (1, 2, 3):
        submit(workshop.engine, seed=seed)
    claims = [workshop.claim() for _ in range(2)]

    with failing(workshop, illegal_access()) as lost, ThreadPoolExecutor(2) as seats:
        list(seats.map(lambda claim: run(claim, workshop), claims))
        wait_for("word of the loss", lambda: lost)
        assert workshop.claim() is None

    assert rows(workshop.engine, "status", "failures") == [("queued", 0)] * 3
    assert workshop.holds == workshop.in_hand == {}
    assert workshop.breaker.reason == ""


def test_a_fault_of_the_job_s_loses_no_device(workshop: Workshop) -> None:
    submit(workshop.engine)
    claim = workshop.claim()
    assert claim is not None

    with failing(workshop, shape_bug()) as lost:
        run(claim, workshop)
        assert workshop.device.run(lambda: "next") == "next"

    assert rows(workshop.engine, "status", "failures") == [("queued", 1)]
    assert lost == []


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: unspecified launch failure",
        "CUDA error: device-side assert triggered",
        "CUDA error: misaligned address",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k)`",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "HIP error: unspecified launch failure",
    ],
)
def test_what_says_that_a_device_failed_for_good_is_known(said: str) -> None:
    assert faults.find_fatal(RuntimeError(said))
    wrapped = ValueError("a library's own")
    wrapped.__cause__ = torch.AcceleratorError(said)
    assert faults.find_fatal(wrapped), "it is what led to another error"


@pytest.mark.parametrize(
    "said",
    ["CUDA out of memory.", "CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublas`",
     "MPS backend out of memory", "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"],
)  # fmt: skip
def test_memory_that_runs_out_is_known_whoever_says_so_and_is_no_lost_device(said: str) -> None:
    assert faults.is_out_of_memory(RuntimeError(said))
    assert faults.find_fatal(RuntimeError(said)) is None


def test_a_fault_of_the_cpu_s_is_no_lost_device() -> None:
    for error in (
        shape_bug(),
        RuntimeError("unknown error"),
        ValueError("CUDA error: misaligned address, says a user"),
    ):
        assert faults.find_fatal(error) is None


@pytest.mark.parametrize("answers", [True, False])
def test_in_doubt_the_device_is_tried(answers: bool) -> None:
    """An error that may be anything: the next call of a device that is gone fails as well."""

    def probe() -> None:
        if not answers:
            raise RuntimeError("CUDA error: invalid argument")

    device = Device(probe=probe)
    try:
        with pytest.raises(Exception, match="shapes" if answers else "does nothing more"):
            device.run(partial(_throw, shape_bug()))
        assert bool(device.guard.lost) == (not answers)
    finally:
        device.close()


def _throw(error: BaseException) -> None:
    raise error


def test_a_process_whose_device_fails_ends_and_another_does_its_jobs(workshop: Workshop, tmp_path: Path) -> None:
    settings = changed(workshop.settings, slots=2, engine_mode="fast", seats=3)
    variables = environment(settings) | {"CHAOS_LOSS": str(tmp_path / "loss"), "OMP_NUM_THREADS": "1"}
    (tmp_path / "loss").touch()
    for prompt in ("a red apple", "sticky", "a green apple"):
        submit(workshop.engine, prompt=prompt)
    crew: list[Painter] = []

    with ending(crew):
        crew.append(start_painter(variables, tmp_path))
        wait_for("the worker's end", lambda: crew[0].exit_code is not None, seconds=60)
        log = crew[0].log.read_text()
        assert crew[0].exit_code == STALLED_EXIT_CODE == 70, log
        assert "illegal memory access" in log
        assert {row[1:] for row in rows(workshop.engine, "id", "failures", "lease_token")} == {(0, None)}, log

        crew.append(start_painter(variables, tmp_path))
        wait_for("all jobs' success", lambda: rows(workshop.engine, "status") == 3 * [("succeeded",)], seconds=60)
    assert rows(workshop.engine, "failures") == 3 * [(0,)]


def device_dies() -> None:
    Device._do_call = None  # type: ignore[assignment,method-assign]  # called outside of everything that is tried


def device_dies_unnoticed() -> None:
    device_dies()
    Guard.lose = lambda _, reason: DeviceLost(reason)  # type: ignore[method-assign]


def heartbeat_dies() -> None:
    Heartbeat._end_if_stalled = None  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("death", [device_dies, device_dies_unnoticed, heartbeat_dies])
def test_a_thread_s_death_is_the_process_s(workshop: Workshop, tmp_path: Path, death: Callable[[], None]) -> None:
    submit(workshop.engine)
    settings = changed(workshop.settings, heartbeat_seconds=0.2)
    painter = start_painter(environment(settings) | {"OMP_NUM_THREADS": "1"}, tmp_path, death)

    with ending([painter]):
        wait_for("the worker's end", lambda: painter.exit_code is not None, seconds=60)

    log = painter.log.read_text()
    assert painter.exit_code == STALLED_EXIT_CODE, log
    if death is device_dies:
        assert rows(workshop.engine, "status", "failures") == [("queued", 0)], log
