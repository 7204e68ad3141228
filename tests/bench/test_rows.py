"""The measurements still measure: the rows that need no server, at small sizes, and the file that they are kept in."""

import time
from pathlib import Path

import pytest
import torch

from bench import backlog, contract, gpu, traffic
from bench.fake import SLOTS, Job, Unet, call_seconds
from bench.painters import Alike, Engine, play
from bench.report import merge
from bench.result import Result
from bench.shapes import make_model
from worker.diffusion.device import Device
from worker.diffusion.slots import Slot, Width

SHORT = Job("dpm_solver_multistep", 3, 7.5)


@pytest.fixture
def quick_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake device at fifty times its speed."""
    monkeypatch.setattr("bench.fake.A_MS", 0.07)
    monkeypatch.setattr("bench.fake.B_MS", 0.1)


def test_the_fake_device_takes_no_less_than_it_says_and_tells_padding_from_pictures() -> None:
    unet, context = Unet(SLOTS), torch.zeros(4, 77, 4)
    context[:3] = 1
    began = time.perf_counter()

    unet(torch.ones(4, 4, 8, 8), torch.zeros(4), encoder_hidden_states=context)

    assert time.perf_counter() - began >= call_seconds(4)
    assert (unet.used, unet.offered) == (3, 2 * SLOTS)


@pytest.mark.usefixtures("quick_device")
def test_the_engine_and_its_rival_paint_every_job_and_none_before_it_came() -> None:
    arrivals = [0.0, 0.01, 0.02, 0.02]
    with Engine(Width(2, exact=False)) as engine, Alike(2) as batches:
        for painter in (engine, batches):
            latencies = play(painter, [SHORT] * 4, arrivals)
            assert len(latencies) == 4
            assert min(latencies) >= SHORT.evaluations * call_seconds(SHORT.rows)
        assert engine.unet.used == 4 * SHORT.evaluations * SHORT.rows


@pytest.mark.usefixtures("quick_device")
def test_the_rows_on_the_fake_device_give_figures(tmp_path: Path) -> None:
    with Engine(Width(SLOTS, exact=False)) as engine, Alike(SLOTS) as batches:
        rows = traffic.compare({"engine": engine, "alike": batches}, rounds=1, count=6)

    rows += backlog.measure(tmp_path, quick=True)
    assert len(rows) == 13
    assert all(row.measured for row in rows)


def test_the_gate_opens_for_an_engine_that_keeps_the_bits_and_not_for_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model(torch.device("cpu"), torch.float32, tiny=True)
    specs = contract.mix(12, [(64, 64)], steps=6)
    device = Device(Width(2, exact=True))
    try:
        assert contract.check(device, model, specs).met
        honest = Slot.latents.fget
        assert honest is not None
        monkeypatch.setattr(Slot, "latents", property(lambda slot: honest(slot) + time.perf_counter()))
        assert contract.check(device, model, specs).met is False
    finally:
        device.close()


def test_the_measurement_of_a_gpu_runs_on_a_cpu_at_its_smallest() -> None:
    rows = gpu.measure_on(torch.device("cpu"), tiny=True, compiled=False)

    assert [row.met for row in rows] == [None, None, None, None, True]


def test_a_section_of_the_results_is_replaced_in_its_place_and_the_others_stay(tmp_path: Path) -> None:
    path, order = tmp_path / "RESULTS.md", ("first", "second", "third")

    def put(name: str, measured: str) -> None:
        merge(path, name, "a machine", 1.0, [Result("speed", measured, "", None)], order)

    for name in ("third", "first", "second"):
        put(name, f"old {name}")
    before = path.read_text()
    put("second", "new")

    assert path.read_text() == before.replace("old second", "new")
    assert before.index("## first") < before.index("## second") < before.index("## third")
