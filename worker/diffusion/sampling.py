"""Latents in, pictures out, through the VAE. Runs on the device."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from PIL import Image

from common.errors import NumericalError
from worker.weights import Model

SMALLEST_DEVIATION = 1 / 255  # of a picture's pixels: one of a single color is a fault, not a picture


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture, and whether the VAE saw it in tiles, which blends their edges: other bits than in one piece."""

    image: Image.Image
    tiled: bool = False


def decode(model: Model, latents: Sequence[torch.Tensor]) -> list[Decoded | NumericalError]:
    """The VAE's pictures of latents (4, h, w) of one size, as RGB of 8h x 8w pixels.

    In place of a picture with NaN or infinity, or of one color that stays one in float32: what is wrong with it.
    """
    return _decode(model, latents, tiled=False)


def decode_tiled(model: Model, latents: Sequence[torch.Tensor]) -> list[Decoded | NumericalError]:
    """The same, with memory for one tile at a time; a picture no larger than a tile stays whole."""
    model.vae.enable_tiling()
    try:
        return _decode(model, latents, tiled=max(latents[0].shape[-2:]) > model.vae.tile_latent_min_size)
    finally:
        model.vae.disable_tiling()


def _decode(model: Model, latents: Sequence[torch.Tensor], *, tiled: bool) -> list[Decoded | NumericalError]:
    pixels = _to_pixels(model.vae, torch.stack(list(latents)).to(model.dtype))
    return [_finish(model, *pair, tiled) for pair in zip(latents, pixels, strict=True)]


def _finish(model: Model, latents: torch.Tensor, pixels: torch.Tensor, tiled: bool) -> Decoded | NumericalError:
    if not torch.isfinite(latents).all():
        return NumericalError("the latents became NaN or infinite")
    if not _is_picture(pixels) and model.dtype != torch.float32:
        pixels = _decode_in_full(model, latents)
    if not _is_picture(pixels):
        return NumericalError("the decoded picture has NaN or infinite pixels, or all of one color")
    image = Image.fromarray(pixels.clamp(0, 1).mul(255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy())
    return Decoded(image, tiled)


def _to_pixels(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """(n, 3, 8h, 8w) in 0..1 and a little beyond, float32."""
    decoded = vae.decode(latents / vae.config.scaling_factor).sample
    pixels: torch.Tensor = decoded.float() / 2 + 0.5
    return pixels


def _decode_in_full(model: Model, latents: torch.Tensor) -> torch.Tensor:
    """The pixels (3, 8h, 8w) by the VAE in float32, as in half precision its sums may overflow.

    By a copy: memory may run out at any of its weights, and the VAE itself must not stay half in each format.
    """
    return _to_pixels(copy.deepcopy(model.vae).float(), latents[None].float())[0]


def _is_picture(pixels: torch.Tensor) -> bool:
    return bool(torch.isfinite(pixels).all()) and float(pixels.clamp(0, 1).std()) >= SMALLEST_DEVIATION
