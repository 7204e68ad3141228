"""Drawn pictures in, a trained VAE out, its latents whitened."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from PIL import Image
from torch import nn
from torch.nn.functional import avg_pool2d

from demo.shapes import LATENTS, SCALING, make_vae
from demo.training.pictures import Pictures, open_pictures

KL_WEIGHT = 1e-4


class VaeTask:
    """Pictures from random shards, often mirrored; the loss says what a soft or discolored copy costs."""

    batch = 8

    def __init__(self, folder: Path, seed: int) -> None:
        self.shards = open_pictures(folder / "pictures", seed)
        self.vae = start_calm(make_vae())
        self.modules = nn.ModuleDict({"vae": self.vae})

    def loss(self, generator: torch.Generator) -> torch.Tensor:
        real = crop(draw_batch(self.shards, self.batch, generator), generator).to(self.vae.device)
        with torch.autocast(real.device.type, torch.bfloat16):
            posterior = self.vae.encode(real).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(real.device)
            latents = posterior.mean + posterior.std * noise
            copy = self.vae.decode(latents).sample
        divergence: torch.Tensor = posterior.kl().mean() / latents[0].numel()
        return copy_loss(copy.float(), real) + KL_WEIGHT * divergence

    def show(self, averaged: nn.ModuleDict, path: Path) -> None:
        """Twelve pictures above, their copies below."""
        real = draw_batch(self.shards, 12, torch.Generator().manual_seed(0))
        with torch.no_grad():
            copy = averaged["vae"](real.to(self.vae.device)).sample.cpu()
        write_sheet(torch.cat([real, copy]), path, columns=12)


def start_calm(vae: AutoencoderKL) -> AutoencoderKL:
    """``vae`` with every residual block doing nothing yet, and hardly any noise in the latents.

    Started otherwise, small VAEs stay for long at copies without color or detail.
    """
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    with torch.no_grad():
        vae.quant_conv.bias[LATENTS:] -= 6  # the logarithm of the variance
    return vae


def crop(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A small part of each picture, or a larger one of a quarter of them: the same work. Small ones differ more."""
    side = 64
    if torch.rand((), generator=generator) < 0.3:
        pictures, side = pictures[: len(pictures) // 4], 128
    room = (pictures.shape[-1] - side) // 8 + 1
    row, column = (8 * torch.randint(room, (2,), generator=generator)).tolist()
    return pictures[:, :, row : row + side, column : column + side].contiguous()


def draw_batch(shards: list[Pictures], count: int, generator: torch.Generator) -> torch.Tensor:
    """Pictures (count, 3, height, width) in -1..1, half of them mirrored."""
    places = torch.randint(len(shards) * len(shards[0]), (count,), generator=generator).tolist()
    chosen = [torch.from_numpy(shards[place // len(shards[0])][place % len(shards[0])].copy()) for place in places]
    pictures = torch.stack(chosen).permute(0, 3, 1, 2).float() / 127.5 - 1
    mirrored = torch.rand((count, 1, 1, 1), generator=generator) < 0.5
    return torch.where(mirrored, pictures.flip(3), pictures)


def copy_loss(copy: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean error of the pixels, of the differences of neighbors, at half the size, and of the color alone."""
    off = copy - real
    edges = off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
    chroma = off - off.mean(dim=1, keepdim=True)
    return (
        off.abs().mean()
        + 0.5 * off.square().mean()
        + 0.5 * edges
        + 0.5 * avg_pool2d(off, 2).abs().mean()
        + chroma.abs().mean()
    )


def whiten(vae: AutoencoderKL, mean: torch.Tensor, deviation: torch.Tensor) -> None:
    """Fold into the VAE that its latents have mean 0 and deviation 1 / SCALING in each channel. Its copies stay equal.

    ``mean`` and ``deviation`` (LATENTS,) are those of the latents before.
    """
    gain = 1 / (SCALING * deviation)
    with torch.no_grad():
        vae.quant_conv.weight[:LATENTS] *= gain[:, None, None, None]
        vae.quant_conv.bias[:LATENTS] = (vae.quant_conv.bias[:LATENTS] - mean) * gain
        vae.quant_conv.bias[LATENTS:] += 2 * gain.log()  # the logarithm of the variance
        bias = vae.post_quant_conv.bias + vae.post_quant_conv.weight[:, :, 0, 0] @ mean
        vae.post_quant_conv.weight /= gain[None, :, None, None]
        vae.post_quant_conv.bias.copy_(bias)


def write_sheet(pictures: torch.Tensor, path: Path, columns: int) -> None:
    """Pictures (n, 3, height, width) in -1..1, side by side in rows of ``columns``."""
    size = pictures.shape[-1]
    sheet = Image.new("RGB", (columns * size, -(-len(pictures) // columns) * size))
    for index, picture in enumerate(((pictures.float().clamp(-1, 1) + 1) * 127.5).byte()):
        image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
        sheet.paste(image, (index % columns * size, index // columns * size))
    sheet.save(path)
