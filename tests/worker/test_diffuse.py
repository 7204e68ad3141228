"""The painter: equal to diffusers' own pipeline, decided by the seed, counted and stopped by the step."""

import copy
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from structlog.testing import capture_logs

from common.errors import JobCanceled, NumericalError, OutOfDeviceMemory, WorkerDraining
from common.jobs.spec import SCHEDULERS, JobSpec, SchedulerName
from tests.worker.conftest import Listener, MakeSpec
from worker.diffusion import slots
from worker.diffusion.device import Device
from worker.diffusion.schedules import make_scheduler
from worker.diffusion.slots import Width
from worker.stages.diffuse import diffuse
from worker.stages.enhance import enhance
from worker.stages.score import score
from worker.ticket import Enhanced, Rendered
from worker.weights import Model

TEXTS = Enhanced("an orange cat", "photograph of an orange cat", "photograph of an orange cat, sharp focus, vivid")

each_scheduler = pytest.mark.parametrize("scheduler", SCHEDULERS)


@each_scheduler
@pytest.mark.parametrize("guidance", [7.5, 1.0])
@pytest.mark.parametrize("negative", ["blurry, grainy", ""])
def test_the_picture_is_the_one_that_diffusers_own_pipeline_makes(
    model: Model, device: Device, make_spec: MakeSpec, scheduler: SchedulerName, guidance: float, negative: str
) -> None:
    spec = make_spec(scheduler=scheduler, guidance_scale=guidance, negative_prompt=negative, num_inference_steps=4)
    pipeline = own_pipeline(model, scheduler)

    expected = pipeline(**pipeline_arguments(spec), output_type="latent").images
    assert (latents(model, spec, device) - expected).norm() < 1e-5 * expected.norm()

    picture = paint(spec, model, device).images[0]
    expected_picture = pipeline(**pipeline_arguments(spec), output_type="pil").images[0]
    assert picture.size == expected_picture.size == (64, 96)
    assert np.abs(np.asarray(picture, int) - np.asarray(expected_picture, int)).max() <= 1  # a half may round up


def test_without_guidance_the_unet_sees_the_picture_once(model: Model, device: Device, make_spec: MakeSpec) -> None:
    for guidance, rows in ((7.5, 2), (1.0, 1)):
        with counted(model) as evaluations:
            paint(make_spec(guidance_scale=guidance), model, device)
        assert evaluations == [rows] * 3


@pytest.mark.parametrize(
    ("name", "kind", "more"),
    [
        ("lms_discrete", "LMSDiscreteScheduler", {}),
        ("heun_discrete", "HeunDiscreteScheduler", {}),
        ("dpm_solver_multistep", "DPMSolverMultistepScheduler", {"solver_order": 2}),
    ],
)
def test_the_schedules_are_those_of_stable_diffusion_v1(name: SchedulerName, kind: str, more: dict[str, int]) -> None:
    scheduler = make_scheduler(name)
    trained_with = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        **more,
    }

    assert type(scheduler).__name__ == kind
    assert {key: scheduler.config[key] for key in trained_with} == trained_with
    assert make_scheduler(name) is not scheduler


@each_scheduler
def test_every_evaluation_is_counted_once_over_all_pictures_in_the_jobs_thread(
    model: Model, device: Device, make_spec: MakeSpec, scheduler: SchedulerName
) -> None:
    spec = make_spec(scheduler=scheduler, num_images=2)
    heard: list[tuple[int, int]] = []

    with counted(model) as evaluations:
        diffuse(spec, TEXTS, model, device, Listener(lambda done: heard.append((done, threading.get_ident()))))

    told = [done for done, _ in heard]
    assert told == sorted(set(told))
    assert told[-1] == spec.evaluations == len(evaluations)
    assert {thread for _, thread in heard} == {threading.get_ident()}


def test_a_job_that_waits_for_its_turn_need_not_get_one_to_stop(
    model: Model, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was to stop waited until each picture had had a step: 57 seconds of the 60 that it is given."""
    monkeypatch.setattr(slots, "LOOK_SECONDS", 0.05)
    device, begun, left = Device(Width(1, exact=True)), threading.Event(), threading.Event()

    def go_on(done: int) -> None:
        begun.set()
        if left.is_set():
            raise JobCanceled

    def stop() -> None:
        raise WorkerDraining

    urgent, waiting = Listener(go_on, urgency=(0,)), Listener(urgency=(1,))
    monkeypatch.setattr(waiting, "look", stop)
    spec = make_spec(num_inference_steps=100, num_images=8)
    with ThreadPoolExecutor(1) as thread:
        painting = thread.submit(diffuse, spec, TEXTS, model, device, urgent)
        try:
            assert begun.wait(60)
            with pytest.raises(WorkerDraining):
                diffuse(spec, TEXTS, model, device, waiting)
            assert [slot.state.at for slot in waiting.slots] == [0] * 8
            assert not painting.done()
        finally:
            left.set()
    with pytest.raises(JobCanceled):
        painting.result()
    device.close()


def test_what_the_holder_raises_stops_the_job_within_a_step(model: Model, device: Device, make_spec: MakeSpec) -> None:
    def cancel_at_five(done: int) -> None:
        if done >= 5:
            raise JobCanceled

    slow = model.unet.register_forward_pre_hook(lambda *_: time.sleep(0.3))  # time for news, on a busy machine too
    try:
        with counted(model) as evaluations:
            with pytest.raises(JobCanceled):
                diffuse(make_spec(num_images=3), TEXTS, model, device, Listener(cancel_at_five))
            device.run(lambda: None)  # after the step that had begun
            done = len(evaluations)
            device.run(lambda: None)
    finally:
        slow.remove()

    assert 5 <= done <= 6
    assert len(evaluations) == done, "it was painted on"


def test_a_seed_decides_the_pixels_and_each_picture_is_the_one_its_seed_gives_alone(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    together = paint(make_spec(seed=2**32 - 2, num_images=3), model, device)

    assert together.seeds == (2**32 - 2, 2**32 - 1, 0)
    alone = [paint(make_spec(seed=seed), model, device).images[0] for seed in together.seeds]
    assert [image.tobytes() for image in together.images] == [image.tobytes() for image in alone]
    assert len({image.tobytes() for image in alone}) == 3


def test_the_recipe_is_json_from_which_the_picture_can_be_made_again(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    first = paint(make_spec(scheduler="heun_discrete", seed=9), model, device)

    recipe: dict[str, Any] = json.loads(json.dumps(first.recipe))
    spec = JobSpec.from_json({field.name: recipe[field.name] for field in fields(JobSpec)})
    texts = Enhanced(recipe["prompt"], recipe["styled_prompt"], recipe["enhanced_prompt"])
    again = diffuse(spec, texts, model, device, Listener())

    assert again.images[0].tobytes() == first.images[0].tobytes()
    assert again.recipe == first.recipe
    assert recipe["model_revisions"] == model.revisions
    assert (recipe["device"], recipe["dtype"]) == ("cpu", "float32")
    assert (recipe["engine_mode"], recipe["slot_width"]) == ("exact", 1)
    assert recipe["versions"]["torch"] == torch.__version__
    assert {"kiln", "diffusers", "transformers"} < recipe["versions"].keys()


def test_a_prompt_is_cut_at_77_tokens_and_the_recipe_says_so(model: Model, device: Device, make_spec: MakeSpec) -> None:
    long = " ".join(["cat"] * 75)
    fits, cut, other = (
        diffuse(make_spec(), replace(TEXTS, enhanced_prompt=text), model, device, Listener())
        for text in (tokens_long(model, 77), f"{long} cat apple tree", f"{long} cat under water")
    )

    assert [rendered.recipe["prompt_cut"] for rendered in (fits, cut, other)] == [False, True, True]
    assert cut.images[0].tobytes() == other.images[0].tobytes()


def test_latents_that_are_no_numbers_are_an_error_and_no_black_picture(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    for part, value in (("unet", float("nan")), ("vae", float("inf"))):
        with pytest.raises(NumericalError):
            paint(make_spec(), broken(model, part, value), device)


def test_memory_that_runs_out_at_one_slot_is_told_with_the_size(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    with room_for(model, 1), pytest.raises(OutOfDeviceMemory, match="64 x 96"):
        paint(make_spec(), model, device)

    assert paint(make_spec(), model, device).images, "the device paints on"


def test_memory_that_runs_out_halves_the_slots_and_loses_no_job(model: Model, make_spec: MakeSpec) -> None:
    device = Device(Width(8, exact=False))
    specs = [make_spec(seed=seed) for seed in range(8)]
    try:
        with room_for(model, 4), capture_logs() as logs, ThreadPoolExecutor(8) as jobs:
            painted = list(jobs.map(lambda spec: paint(spec, model, device), specs))
    finally:
        device.close()

    assert device.width.slots == 2
    assert {line["slots"] for line in logs if line["event"].startswith("out of memory")} <= {4, 2}
    assert len({rendered.images[0].tobytes() for rendered in painted}) == 8
    assert {rendered.recipe["engine_mode"] for rendered in painted} == {"fast"}


def test_many_jobs_share_calls_and_each_gets_its_own_picture(model: Model, make_spec: MakeSpec) -> None:
    """Threads, texts, latents or news of one job reaching another."""
    device = Device(Width(4, exact=True))
    kinds = [(SCHEDULERS[seed % 3], [7.5, 1.0, 3.0, 5.0][seed % 4], 1 + seed % 5) for seed in range(9)]
    square = partial(make_spec, width=128, height=128)
    specs = [
        square(scheduler=name, guidance_scale=guidance, num_inference_steps=steps, seed=seed, num_images=1 + seed % 2)
        for seed, (name, guidance, steps) in enumerate(kinds)
    ]
    try:
        even = device.run(lambda: device.width_of(model, (4, 16, 16))).slots == 4
        alone = [paint(spec, model, device) for spec in specs]
        with ThreadPoolExecutor(9) as jobs:
            together = list(jobs.map(lambda spec: paint(spec, model, device), specs))
    finally:
        device.close()

    assert device.figures.evaluations == 2 * sum(spec.evaluations for spec in specs)
    assert (device.figures.ticks < device.figures.evaluations) == even, "shared where this CPU's kernels allow it"
    for one, other in zip(alone, together, strict=True):
        assert [image.tobytes() for image in one.images] == [image.tobytes() for image in other.images]


def test_a_job_asks_for_the_device_twice_beside_its_steps(model: Model, make_spec: MakeSpec) -> None:
    """Each further call waits for a tick of other jobs, with its slot empty."""
    device = Device()
    try:
        paint(make_spec(), model, device)
    finally:
        device.close()

    assert device.figures.calls == 2, "once to prepare, once to decode"


def test_a_picture_of_one_color_is_an_error(model: Model, device: Device, make_spec: MakeSpec) -> None:
    with pytest.raises(NumericalError, match="one color"):
        paint(make_spec(), broken(model, "vae", -100.0), device)


def test_only_the_device_thread_touches_models_and_tokenizers(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    names: set[str] = set()
    parts: dict[str, Any] = {
        field.name: Watched(getattr(model, field.name), names)
        for field in fields(Model)
        if field.name not in ("name", "device", "dtype", "revisions", "karras", "compiled")
    }
    watched = replace(model, **parts)
    spec = make_spec()

    texts = enhance(spec, watched, device)
    rendered = diffuse(spec, texts, watched, device, Listener())
    score(spec, texts, rendered, watched, device)

    assert {name.split("_")[0] for name in names} == {"device"}


class Watched:
    """A part of a model that notes which threads use it."""

    def __init__(self, part: Any, names: set[str]) -> None:
        self._part = part
        self._names = names

    def __call__(self, *args: Any, **options: Any) -> Any:
        self._names.add(threading.current_thread().name)
        return self._part(*args, **options)

    def __getattr__(self, name: str) -> Any:
        self._names.add(threading.current_thread().name)
        return getattr(self._part, name)


def paint(spec: JobSpec, model: Model, device: Device) -> Rendered:
    return diffuse(spec, TEXTS, model, device, Listener())


def latents(model: Model, spec: JobSpec, device: Device) -> torch.Tensor:
    """(num_images, 4, height / 8, width / 8)."""
    listener = Listener()
    diffuse(spec, TEXTS, model, device, listener)
    return torch.stack([slot.latents for slot in listener.slots])


def own_pipeline(model: Model, scheduler: SchedulerName) -> Any:
    pipeline = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=make_scheduler(scheduler, scheduler in model.karras),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pipeline_arguments(spec: JobSpec) -> dict[str, Any]:
    return {
        "prompt": TEXTS.enhanced_prompt,
        "negative_prompt": spec.negative_prompt,
        "width": spec.width,
        "height": spec.height,
        "num_inference_steps": spec.num_inference_steps,
        "guidance_scale": spec.guidance_scale,
        "generator": torch.Generator().manual_seed(spec.seed),
    }


def tokens_long(model: Model, count: int) -> str:
    """A text of exactly so many tokens, the two at its ends included."""
    words: list[str] = []
    while len(model.tokenizer(" ".join(words)).input_ids) < count:
        words.append("a")
    assert len(model.tokenizer(" ".join(words)).input_ids) == count
    return " ".join(words)


def broken(model: Model, part: str, value: float) -> Model:
    """The model with one part whose every result is ``value``."""
    module = copy.deepcopy(getattr(model, part))
    last = module.conv_out if part == "unet" else module.decoder.conv_out
    last.bias.fill_(value)
    return replace(model, **{part: module})


@contextmanager
def room_for(model: Model, rows: int) -> Iterator[None]:
    """A device whose memory holds U-Net calls of so many rows."""

    def run_out(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.unet.register_forward_pre_hook(run_out)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def counted(model: Model) -> Iterator[list[int]]:
    """One entry for each U-Net evaluation of the block: its rows."""
    seen: list[int] = []
    hook = model.unet.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    try:
        yield seen
    finally:
        hook.remove()
