"""The bit contract, a gate: the sha256 of a job's latents alone, and in a crowd that comes and goes at random."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch

from bench.result import Result
from common.jobs.spec import SCHEDULERS, JobSpec
from common.models import BUILT_IN
from worker.diffusion.conditioning import condition
from worker.diffusion.device import Device
from worker.diffusion.schedules import plot_course
from worker.diffusion.slots import Slot, Width, begin, draw_noise
from worker.weights import Model, load_model

WIDTH = Width(4, exact=True)
SIZES = ((96, 64), (64, 96), (96, 96))
WORDS = ("cat", "dog", "apple", "house", "boat")


@dataclass(frozen=True, slots=True)
class Painted:
    """What became of one job: the sha256 of its latents, and whether its calls were those of the full width."""

    sha256: str
    wide: bool


def measure(home: Path, quick: bool) -> list[Result]:
    model = load_model("demo", BUILT_IN["demo"], home=home, device=torch.device("cpu"), dtype=torch.float32)
    device = Device(WIDTH)
    try:
        return [check(device, model, mix(6 if quick else 48, SIZES, steps=3 if quick else 8))]
    finally:
        device.close()


def check(device: Device, model: Model, specs: Sequence[JobSpec]) -> Result:
    """Paint every job alone, then all of them together, each from a random moment on, at the device's width."""
    width, began = device.width, time.monotonic()
    alone = [paint(device, model, spec, place=0) for spec in specs]
    seconds, before = time.monotonic() - began, replace(device.figures)
    together = _crowd(device, model, specs, seconds / 8)
    company = (device.figures.evaluations - before.evaluations) / (device.figures.ticks - before.ticks)
    same = sum(one == other for one, other in zip(alone, together, strict=True))
    wide = sum(one.wide for one in together)
    return Result(
        f"latents with the same sha256 alone and in company, {model.device.type}, exact mode, {len(specs)} jobs at "
        f"random, {wide} of them of a size that takes {width.slots} slots a call; {company:.1f} shared one on average",
        f"{100 * same / len(specs):g} %",
        "100 %",
        same == len(specs) and wide > 0 and company > 1,
    )


def mix(count: int, sizes: Sequence[tuple[int, int]], steps: int) -> list[JobSpec]:
    """Any scheduler, guidance and size, and up to so many steps."""
    chance = random.Random(count)  # noqa: S311 - the same jobs each time
    return [make_spec(chance, seed, chance.choice(sizes), chance.randint(1, steps)) for seed in range(count)]


def make_spec(chance: random.Random, seed: int, size: tuple[int, int], steps: int) -> JobSpec:
    return JobSpec(
        prompt=f"a red {chance.choice(WORDS)}",
        negative_prompt="blurry",
        style="none",
        enhance=False,
        model="demo",
        width=size[0],
        height=size[1],
        num_inference_steps=steps,
        guidance_scale=chance.choice((1.0, 3.0, 7.5)),
        scheduler=chance.choice(SCHEDULERS),
        seed=seed,
        num_images=1,
        keep_best=None,
        output_format="png",
    )


def paint(device: Device, model: Model, spec: JobSpec, place: int) -> Painted:
    """From this thread, and no further than the latents."""
    slot = device.run(partial(_take_slot, model, spec, place))
    with device.seat([slot], list, "latents") as sitting:
        for _ in sitting.progress():
            pass
    bits = slot.latents.cpu().contiguous().numpy().tobytes()
    return Painted(sha256(bits).hexdigest(), wide=sitting.widths == {device.width} and device.width.slots > 1)


def _crowd(device: Device, model: Model, specs: Sequence[JobSpec], seconds: float) -> list[Painted]:
    """All jobs over so many seconds, in a random order of arrival and of urgency."""
    chance = random.Random(len(specs))  # noqa: S311 - the same crowd each time

    def come(spec: JobSpec, arrival: float, place: int) -> Painted:
        time.sleep(arrival)
        return paint(device, model, spec, place)

    arrivals = [chance.uniform(0, seconds) for _ in specs]
    places = chance.sample(range(len(specs)), len(specs))
    with ThreadPoolExecutor(len(specs)) as threads:
        return list(threads.map(come, specs, arrivals, places))


def _take_slot(model: Model, spec: JobSpec, place: int) -> Slot:
    said = (spec.negative_prompt, spec.prompt) if spec.guidance_scale > 1 else (spec.prompt,)
    course = plot_course(spec.scheduler, spec.num_inference_steps)
    return Slot(
        model=model,
        course=course,
        context=condition(model, [said])[0],
        guidance=spec.guidance_scale,
        urgency=(0, place),
        alone=False,
        state=begin(course, draw_noise(model, spec.width, spec.height, spec.seed)),
    )
