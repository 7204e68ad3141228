"""Jobs in, their pictures out: the worker's own stages, only many pictures at a time. Touches the model's device."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.jobs.spec import JobSpec
from worker.diffusion.conditioning import condition
from worker.diffusion.device import Device
from worker.diffusion.sampling import Sampling, decode
from worker.stages.enhance import enhance
from worker.weights import Model

Pictures = NDArray[np.uint8]  # (n, height, width, 3)
AT_ONCE = 16


class WideUNet:
    """A model's U-Net that takes a context for each picture, (1 or 2, pictures, 77, width), and so many at a time."""

    def __init__(self, unet: Any) -> None:
        self.config = unet.config
        self._unet = unet

    def __call__(self, rows: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        return self._unet(rows, timestep, encoder_hidden_states=encoder_hidden_states.flatten(0, 1))


def paint(
    specs: Sequence[JobSpec], model: Model, device: Device, on_batch: Callable[[int], None] = lambda done: None
) -> Pictures:
    """The first picture of each job; all are of one size. ``on_batch`` hears how many more have been painted.

    Up to the rounding of sums, whose order depends on the number of rows, these are the pictures that a worker paints.
    """
    texts = [enhance(spec, model, device).enhanced_prompt for spec in specs]
    painted: dict[int, NDArray[np.uint8]] = {}
    order = sorted(range(len(specs)), key=lambda index: _kind(specs[index]))
    for _, alike in groupby(order, key=lambda index: _kind(specs[index])):
        indices = list(alike)
        for start in range(0, len(indices), AT_ONCE):
            some = indices[start : start + AT_ONCE]
            jobs = [(specs[index], texts[index]) for index in some]
            painted |= zip(some, device.run(partial(_paint_together, jobs, model)), strict=True)
            on_batch(len(some))
    return np.stack([painted[index] for index in range(len(specs))])


def _kind(spec: JobSpec) -> tuple[str, int, float]:
    """What pictures that are painted together have in common."""
    return spec.scheduler, spec.num_inference_steps, spec.guidance_scale


def _paint_together(jobs: list[tuple[JobSpec, str]], model: Model) -> list[NDArray[np.uint8]]:
    wide = replace(model, unet=WideUNet(model.unet))
    contexts = [condition(model, text, spec.negative_prompt, spec.guidance_scale) for spec, text in jobs]
    context = torch.stack(contexts, dim=1)
    samplings = [Sampling(wide, spec, context, spec.seed) for spec, _ in jobs]
    together = samplings[0]
    together.latents = torch.cat([sampling.latents for sampling in samplings])
    for _ in range(together.evaluations):
        together.step()
    return [np.asarray(decode(model, latents[None])) for latents in together.latents]
