"""Stage 2, diffuse: the job's texts in; its pictures, their seeds and the recipe that makes them again out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from PIL import Image

from common.errors import OutOfDeviceMemory
from common.jobs.spec import JobSpec
from worker.diffusion.conditioning import condition, is_cut
from worker.diffusion.device import Device
from worker.diffusion.sampling import Sampling, decode
from worker.ticket import Enhanced, Rendered
from worker.weights import Model

LIBRARIES = ("kiln", "torch", "diffusers", "transformers")


def diffuse(spec: JobSpec, texts: Enhanced, model: Model, device: Device, on_step: Callable[[int], None]) -> Rendered:
    """Paint every picture of the job, one after the other; picture i is the one that seed + i gives alone.

    ``on_step`` hears, in the job's thread, of every U-Net evaluation: how many are behind, over all pictures.
    What it raises ends the job at once. Raises NumericalError and OutOfDeviceMemory.
    """
    seeds = tuple(spec.image_seed(index) for index in range(spec.num_images))
    with _naming_the_size(spec):
        context = device.run(lambda: condition(model, texts.enhanced_prompt, spec.negative_prompt, spec.guidance_scale))
        # on the device thread too: a tokenizer keeps its settings for cutting and padding between calls
        cut = device.run(partial(is_cut, model, texts.enhanced_prompt))
        images: list[Image.Image] = []
        for index, seed in enumerate(seeds):
            sampling = device.run(partial(Sampling, model, spec, context, seed))
            for step in range(sampling.evaluations):
                device.run(sampling.step)
                on_step(index * sampling.evaluations + step + 1)
            images.append(device.run(partial(decode, model, sampling.latents)))
    return Rendered(images=tuple(images), seeds=seeds, recipe=_recipe(spec, texts, model, cut))


def _recipe(spec: JobSpec, texts: Enhanced, model: Model, cut: bool) -> dict[str, Any]:
    """What is needed to make the pictures again, bit for bit: request, final text, weights, arithmetic, versions."""
    return {
        **spec.to_json(),
        "styled_prompt": texts.styled_prompt,
        "enhanced_prompt": texts.enhanced_prompt,
        "prompt_cut": cut,
        "model_revisions": dict(model.revisions),
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "slot_width": 1,
        "versions": {library: version(library) for library in LIBRARIES},
    }


@contextmanager
def _naming_the_size(spec: JobSpec) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(f"{spec.width} x {spec.height} pixels do not fit into the device's memory") from error
