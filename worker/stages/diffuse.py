"""Stage 2, diffuse: the job's texts in; its pictures, their seeds and the recipe that makes them again out."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from PIL import Image

from common.errors import NumericalError, OutOfDeviceMemory
from common.jobs.spec import JobSpec
from worker.diffusion.conditioning import condition, is_cut
from worker.diffusion.device import Device
from worker.diffusion.sampling import decode
from worker.diffusion.schedules import Course, plot_course
from worker.diffusion.slots import Slot, Width, begin, draw_noise, latents_shape
from worker.ticket import Enhanced, Rendered
from worker.weights import Model

FLOATING = {"engine_mode": "fast"}  # memory ran out on the way, so the width changed: the bits are not to be had again


class Holder(Protocol):
    """Who has the job in hand: says how urgent it is, and hears how far it is."""

    urgency: tuple[Any, ...]  # the least goes first; it begins with the lane
    alone: bool  # it failed before, and is not to take others with it

    def resume(self, slots: list[Slot], recipe: dict[str, Any]) -> None:
        """Before the first step: slots may be put forward to where an earlier attempt left them."""

    def step(self, done: int) -> None:
        """So many U-Net evaluations are behind, over all pictures. What is raised takes the job off the device."""


def diffuse(spec: JobSpec, texts: Enhanced, model: Model, device: Device, holder: Holder) -> Rendered:
    """Paint every picture of the job; picture i is the one that seed + i gives alone.

    Raises NumericalError, OutOfDeviceMemory, and what ``holder`` raises.
    """
    seeds = tuple(spec.image_seed(index) for index in range(spec.num_images))
    course = plot_course(spec.scheduler, spec.num_inference_steps, spec.scheduler in model.karras)
    with _naming_the_size(spec):
        asked = _Asked(spec, texts.enhanced_prompt, course, holder)
        slots, cut, width = device.share(partial(_prepare, model, device), ("prepare", model.name), asked)
        recipe = _recipe(spec, texts, model, cut, width)
        holder.resume(slots, recipe)
        with device.seat(slots, partial(decode, model), ("decode", model.name, spec.width, spec.height)) as sitting:
            for done in sitting.progress():
                holder.step(done)
        images = tuple(_take_picture(sitting.results[slot]) for slot in slots)
    return Rendered(images, seeds, recipe if sitting.widths <= {width} else recipe | FLOATING)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A job before its first step."""

    spec: JobSpec
    prompt: str  # styled and enhanced
    course: Course
    holder: Holder

    @property
    def texts(self) -> tuple[str, ...]:
        """What the U-Net is to be told: with guidance, also what is not wanted."""
        return (self.spec.negative_prompt, self.prompt) if self.spec.guidance_scale > 1 else (self.prompt,)


def _prepare(model: Model, device: Device, jobs: Sequence[_Asked]) -> list[tuple[list[Slot], bool, Width]]:
    """Of each job its slots, whether its prompt was too long to be read whole, and its width.

    All on the device thread, and in one call: each further one would wait for another tick.
    """
    contexts = condition(model, [job.texts for job in jobs])
    return [
        (
            [_take_slot(job, index, model, context) for index in range(job.spec.num_images)],
            is_cut(model, job.prompt),
            device.width_of(model, latents_shape(model, job.spec.width, job.spec.height)),
        )
        for job, context in zip(jobs, contexts, strict=True)
    ]


def _take_slot(job: _Asked, index: int, model: Model, context: torch.Tensor) -> Slot:
    spec = job.spec
    return Slot(
        model=model,
        course=job.course,
        context=context,
        guidance=spec.guidance_scale,
        urgency=(*job.holder.urgency, index),
        alone=job.holder.alone,
        state=begin(job.course, draw_noise(model, spec.width, spec.height, spec.image_seed(index))),
    )


def _take_picture(result: "Future[Image.Image | NumericalError]") -> Image.Image:
    picture = result.result()
    if isinstance(picture, NumericalError):
        raise picture
    return picture


def _recipe(spec: JobSpec, texts: Enhanced, model: Model, cut: bool, width: Width) -> dict[str, Any]:
    """What is needed to make the pictures again, bit for bit: request, final text, weights, arithmetic, versions."""
    return {
        **spec.to_json(),
        "styled_prompt": texts.styled_prompt,
        "enhanced_prompt": texts.enhanced_prompt,
        "prompt_cut": cut,
        **model.recipe,
        "engine_mode": "fast" if width.floats else "exact",
        "slot_width": width.slots,
        "karras_sigmas": spec.scheduler in model.karras,
        "compiled": model.compiled == (spec.width, spec.height),
    }


@contextmanager
def _naming_the_size(spec: JobSpec) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(f"{spec.width} x {spec.height} pixels do not fit into the device's memory") from error
