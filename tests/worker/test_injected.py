"""Every call of a job's fails once, twice, always: who is blamed, who is not, and what stays in memory meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from bench.shapes import TINY_UNET, TINY_VAE, make_unet
from common.errors import DeviceLost, OutOfDeviceMemory
from common.jobs.spec import JobSpec
from tests.processes import wait_for
from tests.worker.conftest import Listener, MakeSpec
from tests.worker.injected import Injected, illegal_access, out_of_memory, shape_bug
from worker.diffusion.checkpoint import pack
from worker.diffusion.device import Device
from worker.diffusion.faults import Failed, attempt
from worker.diffusion.slots import Width
from worker.preview import Previews
from worker.stages.diffuse import diffuse
from worker.stages.enhance import enhance
from worker.stages.score import score
from worker.weights import Model

ALONE, SHARED = Width(1, exact=True), Width(2, exact=False)  # calls of one job, and of several
LONG = "an orange cat on a green hill " * 6  # which leaves the enhancer room for a word or two

each_call = pytest.mark.parametrize(
    ("width", "every"),
    [
        pytest.param(SHARED, False, id="the first of each kind"),
        pytest.param(SHARED, True, id="shared", marks=pytest.mark.slow),
        pytest.param(ALONE, True, id="alone", marks=pytest.mark.slow),
    ],
)


@pytest.fixture(scope="module")
def small(model: Model) -> Model:
    """The demo model with a U-Net and a VAE that take no time."""
    torch.manual_seed(0)
    vae = AutoencoderKL(**TINY_VAE).eval().requires_grad_(False)
    return replace(
        model, unet=make_unet(TINY_UNET | {"cross_attention_dim": model.unet.config.cross_attention_dim}), vae=vae
    )


class Job(Listener):
    """A job that also keeps its state, and shows itself, in its own thread."""

    def __init__(self, device: Device, place: int) -> None:
        super().__init__(self._look, urgency=(0, place))
        self._device, self._previews = device, Previews(device)

    def _look(self, done: int) -> None:
        with self._device.guard.reading():
            pack([slot.state for slot in self.slots], "identity")
        if done == 1:
            with suppress(Exception):  # as News has it
                self._previews.show(self.slots[0])


def work(model: Model, device: Device, spec: JobSpec, place: int) -> str:
    """All of a job but the store: the sha256 of its picture."""
    texts = enhance(spec, model, device)
    rendered = diffuse(spec, texts, model, device, Job(device, place))
    score(spec, texts, rendered, model, device)
    return sha256(rendered.images[0].tobytes()).hexdigest()


@contextmanager
def serving(width: Width, **options: Any) -> Iterator[Device]:
    device = Device(width, **options)
    try:
        yield device
    finally:
        device.close()


def outcomes(model: Model, device: Device, specs: list[JobSpec]) -> list[Any]:
    """What became of the jobs, all at once: a picture's sha256, or Failed. None of them waits for ever."""
    with ThreadPoolExecutor(len(specs)) as seats:
        begun = [seats.submit(attempt, partial(work, model, device, spec, place)) for place, spec in enumerate(specs)]
        return [one.result(timeout=60) for one in begun]


@pytest.fixture(scope="module")
def specs(make_spec: MakeSpec) -> list[JobSpec]:
    return [make_spec(prompt=LONG, height=64, num_inference_steps=2, seed=seed) for seed in (1, 2)]


class Trial:
    """Jobs on a device of their own, of which one call after the other fails."""

    def __init__(self, small: Model, specs: list[JobSpec], width: Width, monkeypatch: pytest.MonkeyPatch) -> None:
        self.small, self.specs, self.width, self._monkeypatch = small, specs, width, monkeypatch
        calls = Injected()
        with self.going(calls) as (model, device):
            self.unharmed = outcomes(model, device, specs)
        assert len({*self.unharmed}) == len(specs), "the jobs must paint different pictures"
        self.calls = calls.calls

    @contextmanager
    def going(self, injected: Injected) -> Iterator[tuple[Model, Device]]:
        with injected.under(self.small, self._monkeypatch) as model, serving(self.width) as device:
            yield model, device

    def points(self, every: bool) -> list[int]:
        """Numbers of calls: of all, or of each kind of call the first."""
        numbered = list(enumerate(self.calls, 1))
        return sorted({number if every else kind: number for number, kind in reversed(numbered)}.values())


@pytest.fixture
def trial(small: Model, specs: list[JobSpec], width: Width, monkeypatch: pytest.MonkeyPatch) -> Trial:
    return Trial(small, specs, width, monkeypatch)


def on_device(injected: Injected) -> bool:
    """Whether it was the device thread whose call failed; it may also be that so many calls were not needed."""
    return injected.struck is not None and injected.struck[1] == "device"


def failures(results: list[Any], trial: Trial) -> list[BaseException]:
    """What went wrong; whoever was spared has its own picture, bit for bit."""
    for result, unharmed in zip(results, trial.unharmed, strict=True):
        assert isinstance(result, Failed) or result == unharmed
    return [result.error for result in results if isinstance(result, Failed)]


@each_call
def test_memory_that_runs_out_once_harms_nobody(trial: Trial, every: bool) -> None:
    for number in trial.points(every):
        injected = Injected(out_of_memory, at=number)
        with trial.going(injected) as (model, device):
            results = outcomes(model, device, trial.specs)
            problems = failures(results, trial)
        assert not problems or not on_device(injected), injected.struck
        assert injected.still_held == [], f"{injected.struck}: tried again while the failed call's tensors were held"
        assert not injected.holds()


@each_call
def test_memory_that_runs_out_again_fails_one_job_at_most_and_says_so(trial: Trial, every: bool) -> None:
    for number in trial.points(every):
        injected = Injected(out_of_memory, at=number, times=2)
        with trial.going(injected) as (model, device):
            results = outcomes(model, device, trial.specs)
            problems = failures(results, trial)
            assert len(problems) <= (2 if injected.struck and not on_device(injected) else 1), injected.struck
            assert all(isinstance(problem, OutOfDeviceMemory) for problem in problems), problems
            assert device.is_alive()
        assert injected.still_held == [], injected.struck
        assert not injected.holds(), f"{injected.struck}: the error that is told keeps tensors"


@pytest.mark.slow
@each_call
def test_memory_that_never_suffices_is_told_to_each_job_and_the_device_goes_on(trial: Trial, every: bool) -> None:
    for number in trial.points(every):
        injected = Injected(out_of_memory, at=number, times=None)
        with trial.going(injected) as (model, device):
            results = outcomes(model, device, trial.specs)
            problems = failures(results, trial)
            assert all(isinstance(problem, OutOfDeviceMemory) for problem in problems), problems
            injected.times = 0
            assert failures(outcomes(model, device, trial.specs), trial) == []
        assert injected.still_held == [], injected.struck


@each_call
def test_a_fault_of_one_call_is_one_job_s_at_most(trial: Trial, every: bool) -> None:
    for number in trial.points(every):
        injected = Injected(shape_bug, at=number)
        with trial.going(injected) as (model, device):
            problems = failures(outcomes(model, device, trial.specs), trial)
            assert len(problems) <= 1, injected.struck
            assert {str(problem) for problem in problems} <= {str(shape_bug())}
            assert device.is_alive()
        assert not injected.holds()


@each_call
def test_a_device_that_fails_for_good_is_lost_to_all_and_never_tried_again(trial: Trial, every: bool) -> None:
    for number in trial.points(every):
        injected, told = Injected(illegal_access, at=number, times=None), list[str]()
        with trial.going(injected) as (model, device):
            device.guard.on_loss = lambda told=told, device=device: told.append(device.guard.lost)
            problems = failures(outcomes(model, device, trial.specs), trial)
            if not injected.struck:
                continue
            assert problems, injected.struck
            assert {type(problem) for problem in problems} == {DeviceLost}, problems
            device._thread.join(10)
            assert not device.is_alive()
            wait_for("word of the loss", lambda told=told: told)
            after = [call for call in injected.calls[number:] if call[1] == "device"]
            assert len(after) <= (0 if on_device(injected) else 1), f"{injected.struck}, then {after}"
            with pytest.raises(DeviceLost):
                device.run(lambda: None)
        assert told == ["CUDA error: an illegal memory access was encountered"]
        assert not injected.holds()
