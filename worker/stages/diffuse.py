"""Stage 2, diffuse: the job's texts in; its pictures, their seeds and the recipe that makes them again out."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from common.errors import NumericalError, OutOfDeviceMemory
from common.jobs.spec import JobSpec
from worker.diffusion.conditioning import condition, is_cut
from worker.diffusion.device import Device
from worker.diffusion.faults import is_out_of_memory
from worker.diffusion.sampling import Decoded, decode, decode_tiled
from worker.diffusion.schedules import Course, plot_course
from worker.diffusion.slots import Sitting, Slot, Width, begin, draw_noise, latents_shape
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

    def look(self) -> None:
        """There has been no step for a second. What is raised takes the job off the device."""


def diffuse(spec: JobSpec, texts: Enhanced, model: Model, device: Device, holder: Holder) -> Rendered:
    """Paint every picture of the job; picture i is the one that seed + i gives alone.

    Raises NumericalError, OutOfDeviceMemory, DeviceLost, and what ``holder`` raises.
    """
    seeds = tuple(spec.image_seed(index) for index in range(spec.num_images))
    course = plot_course(spec.scheduler, spec.num_inference_steps, spec.scheduler in model.karras)
    with _naming_the_size(spec), device.guard.reading():
        asked = _Asked(spec, texts.enhanced_prompt, course, holder)
        slots, cut, width = device.share(partial(_prepare, model, device), ("prepare", model.name), asked)
        recipe = _recipe(spec, texts, model, cut, width)
        holder.resume(slots, recipe)
        work, fallback = partial(decode, model), partial(decode_tiled, model)
        with device.seat(slots, work, ("decode", model.name, spec.width, spec.height), fallback) as sitting:
            for done in sitting.progress():
                holder.look() if done is None else holder.step(done)
        decoded = [_take_picture(sitting.results[slot]) for slot in slots]
    tiled = tuple(picture.tiled for picture in decoded)
    recipe |= _deviations(sitting, model, width) | ({"vae_tiling": True} if any(tiled) else {})
    return Rendered(tuple(picture.image for picture in decoded), seeds, recipe, tiled)


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


def _take_picture(result: "Future[Decoded | NumericalError]") -> Decoded:
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
        "compiled": model.compiled is not None and model.compiled.size == (spec.width, spec.height),
    }


def _deviations(sitting: Sitting, model: Model, width: Width) -> dict[str, Any]:
    """What the recipe must say otherwise, now that it is known how the pictures were painted."""
    floated = not sitting.widths <= {width}
    plain = model.compiled is not None and not sitting.rows <= model.compiled.rows
    return (FLOATING if floated else {}) | ({"compiled": False} if plain else {})


@contextmanager
def _naming_the_size(spec: JobSpec) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not isinstance(error, OutOfDeviceMemory) and not is_out_of_memory(error):
            raise
    else:
        return
    raise OutOfDeviceMemory(f"{spec.width} x {spec.height} pixels do not fit into the device's memory")
