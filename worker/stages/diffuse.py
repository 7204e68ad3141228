"""Stage 2, diffuse: the job's texts in; its pictures, their seeds and the recipe that makes them again out."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

import torch
from PIL import Image

from common.errors import NumericalError, OutOfDeviceMemory
from common.jobs.spec import JobSpec
from worker.diffusion.conditioning import condition, is_cut
from worker.diffusion.device import Device
from worker.diffusion.sampling import decode
from worker.diffusion.schedules import plot_course
from worker.diffusion.slots import Slot, Width, begin, draw_noise, latents_shape
from worker.ticket import Enhanced, Rendered
from worker.weights import Model

LIBRARIES = ("kiln", "torch", "diffusers", "transformers")
FLOATING = {"engine_mode": "fast"}  # memory ran out on the way, so the width changed: the bits are not to be had again


class Holder(Protocol):
    """Who has the job in hand: says how urgent it is, and hears how far it is."""

    urgency: tuple[Any, ...]  # the least goes first
    alone: bool  # it failed before, and is not to take others with it

    def resume(self, slots: list[Slot], recipe: dict[str, Any]) -> None:
        """Before the first step: slots may be put forward to where an earlier attempt left them."""

    def step(self, done: int) -> None:
        """So many U-Net evaluations are behind, over all pictures. What is raised takes the job off the device."""


def diffuse(spec: JobSpec, texts: Enhanced, model: Model, device: Device, holder: Holder) -> Rendered:
    """Paint every picture of the job; picture i is the one that seed + i gives alone.

    Raises NumericalError, OutOfDeviceMemory, and what ``holder`` raises.
    """
    width = device.run(lambda: device.width_of(model, latents_shape(model, spec.width, spec.height)))
    seeds = tuple(spec.image_seed(index) for index in range(spec.num_images))
    with _naming_the_size(spec):
        context, cut = _read(spec, texts, model, device)
        recipe = _recipe(spec, texts, model, cut, width)
        slots = device.run(lambda: [_take_slot(spec, index, model, context, holder) for index in range(len(seeds))])
        holder.resume(slots, recipe)
        with device.seat(slots) as sitting:
            for done in sitting.progress():
                holder.step(done)
        images = tuple(_decode(slot, device) for slot in slots)
    return Rendered(images, seeds, recipe if sitting.widths <= {width} else recipe | FLOATING)


def _read(spec: JobSpec, texts: Enhanced, model: Model, device: Device) -> tuple[torch.Tensor, bool]:
    """What the prompts say to the U-Net, and whether the prompt was too long to be read whole."""
    guided = spec.guidance_scale > 1
    said = (spec.negative_prompt, texts.enhanced_prompt) if guided else (texts.enhanced_prompt,)
    context = device.share(partial(condition, model), ("condition", model.name), said)
    # on the device thread too: a tokenizer keeps its settings for cutting and padding between calls
    return context, device.run(partial(is_cut, model, texts.enhanced_prompt))


def _take_slot(spec: JobSpec, index: int, model: Model, context: torch.Tensor, holder: Holder) -> Slot:
    course = plot_course(spec.scheduler, spec.num_inference_steps)
    return Slot(
        model=model,
        course=course,
        context=context,
        guidance=spec.guidance_scale,
        urgency=(*holder.urgency, index),
        alone=holder.alone,
        state=begin(course, draw_noise(model, spec.width, spec.height, spec.image_seed(index))),
    )


def _decode(slot: Slot, device: Device) -> Image.Image:
    model, latents = slot.model, slot.latents
    picture = device.share(partial(decode, model), ("decode", model.name, latents.shape), latents)
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
        "model_revisions": dict(model.revisions),
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "engine_mode": "fast" if width.floats else "exact",
        "slot_width": width.slots,
        "compiled": model.compiled == (spec.width, spec.height),
        "versions": {library: version(library) for library in LIBRARIES},
    }


@contextmanager
def _naming_the_size(spec: JobSpec) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(f"{spec.width} x {spec.height} pixels do not fit into the device's memory") from error
