"""Latents in, pictures out, through the VAE. Runs on the device."""

from collections.abc import Sequence

import torch
from PIL import Image

from common.errors import NumericalError
from worker.weights import Model

SMALLEST_DEVIATION = 1 / 255  # of a picture's pixels: one of a single color is a fault, not a picture


def decode(model: Model, latents: Sequence[torch.Tensor]) -> list[Image.Image | NumericalError]:
    """The VAE's pictures of latents (4, h, w) of one size, as RGB of 8h x 8w pixels.

    In place of a picture with NaN or infinity, or of one color that stays one in float32: what is wrong with it.
    """
    pixels = _to_pixels(model, torch.stack(list(latents)).to(model.dtype))
    return [_finish(model, *pair) for pair in zip(latents, pixels, strict=True)]


def _finish(model: Model, latents: torch.Tensor, pixels: torch.Tensor) -> Image.Image | NumericalError:
    if not torch.isfinite(latents).all():
        return NumericalError("the latents became NaN or infinite")
    if not _is_picture(pixels) and model.dtype != torch.float32:
        pixels = _decode_in_full(model, latents)
    if not _is_picture(pixels):
        return NumericalError("the decoded picture has NaN or infinite pixels, or all of one color")
    return Image.fromarray(pixels.clamp(0, 1).mul(255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy())


def _to_pixels(model: Model, latents: torch.Tensor) -> torch.Tensor:
    """(n, 3, 8h, 8w) in 0..1 and a little beyond, float32."""
    decoded = model.vae.decode(latents / model.vae.config.scaling_factor).sample
    pixels: torch.Tensor = decoded.float() / 2 + 0.5
    return pixels


def _decode_in_full(model: Model, latents: torch.Tensor) -> torch.Tensor:
    """The pixels (3, 8h, 8w), with the VAE in float32 for once: in half precision its sums may overflow."""
    model.vae.float()
    try:
        return _to_pixels(model, latents[None].float())[0]
    finally:
        model.vae.to(model.dtype)


def _is_picture(pixels: torch.Tensor) -> bool:
    return bool(torch.isfinite(pixels).all()) and float(pixels.clamp(0, 1).std()) >= SMALLEST_DEVIATION
