"""A picture on its way in, a small one of what it may become out, as a data URL. Derived from each model's own VAE.

Latents are nearly linear in color, so a 4 x 3 matrix shows them at an eighth of the size for next to nothing. That of
SD v1 is well known; fitted to the model's own VAE, one way serves every model.
"""

import base64
import io
from functools import cache

import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, interpolate

from worker.diffusion.device import Device
from worker.diffusion.schedules import SAMPLES, make_scheduler
from worker.diffusion.slots import LATENT_FACTOR, Slot
from worker.weights import Model

MOST_PIXELS = 128  # of a side
QUALITY = 70  # of the JPEG
_PICTURES, _SIDE, _KNOTS = 8, 128, 5  # what a map is fitted to: pictures of random colors that flow into each other


class Previews:
    """Shows pictures under way. Each model's map is made when it is first needed, and then kept."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._maps: dict[str, torch.Tensor] = {}

    def show(self, slot: Slot) -> str:
        """The slot's picture as far as it can be told, as a JPEG in a data URL of a few kilobytes."""
        name = slot.model.name
        if name not in self._maps:
            self._maps[name] = self._device.run(lambda: fit_map(slot.model))
        with self._device.guard.reading():
            latents = foresee(slot)
        return data_url(paint(latents, self._maps[name]))


def fit_map(model: Model) -> torch.Tensor:
    """The matrix (channels + 1, 3) from latents, and 1, to RGB in 0..1: least squares. On the device thread."""
    generator = torch.Generator().manual_seed(0)
    knots = torch.rand((_PICTURES, 3, _KNOTS, _KNOTS), generator=generator)
    pixels = interpolate(knots, size=(_SIDE, _SIDE), mode="bilinear")
    coded = model.vae.encode((pixels * 2 - 1).to(model.device, model.dtype)).latent_dist.mean
    latents = coded.float().cpu() * model.vae.config.scaling_factor
    colors = avg_pool2d(pixels, LATENT_FACTOR)
    solved: torch.Tensor = torch.linalg.lstsq(_columns(latents), colors.movedim(1, -1).reshape(-1, 3)).solution
    return solved


def foresee(slot: Slot) -> torch.Tensor:
    """The latents that the picture would end with, were the U-Net's latest answer its last word; (4, h, w) on the CPU.

    x = √ā · x0 + √(1 - ā) · e (Ho et al., 2020, equation 4), with x as the U-Net sees it.
    """
    state = slot.state  # once: the device thread may put another in its place meanwhile
    past = state.past.cpu()
    if state.at == len(slot.course):  # by now nothing is left to foresee
        return past[0]
    kept = _kept(float(slot.course.timesteps[state.at]))
    latents = (past[0] * slot.course.scale[state.at] - (1 - kept).sqrt() * past[SAMPLES]) / kept.sqrt()
    return latents / max(1.0, float(latents.std()))  # early answers promise too much


def paint(latents: torch.Tensor, mapped: torch.Tensor) -> Image.Image:
    """The picture of latents (4, h, w), a pixel for each place or fewer."""
    height, width = latents.shape[1:]
    pixels = (_columns(latents[None]) @ mapped).clamp(0, 1).mul(255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.reshape(height, width, 3).numpy())
    picture.thumbnail((MOST_PIXELS, MOST_PIXELS))
    return picture


def data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _columns(latents: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) as (n·h·w, c + 1), the last of which is 1."""
    places = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    return torch.cat([places, torch.ones(len(places), 1)], dim=1)


def _kept(timestep: float) -> torch.Tensor:
    """ā: how much of the picture's variance is left at a timestep, which may lie between two."""
    alphas, low = _alphas(), int(timestep)
    share = timestep - low
    return alphas[low] * (1 - share) + alphas[min(low + 1, len(alphas) - 1)] * share


@cache
def _alphas() -> torch.Tensor:
    alphas: torch.Tensor = make_scheduler("dpm_solver_multistep").alphas_cumprod
    return alphas
