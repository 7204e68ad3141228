"""A training folder in; the parts that ship, in half precision and their published layouts, out."""

import json
import shutil
from pathlib import Path

import torch
from torch import nn

from demo.shapes import make_text_encoder, make_unet, make_vae
from demo.training.loop import load_averaged
from demo.training.pictures import open_pictures
from demo.training.vae import draw_batch, whiten


def export_vae(folder: Path, seed: int, samples: int = 400) -> None:
    """Whiten the averaged VAE on ``samples`` drawn pictures and write it to ``folder``/vae in half precision.

    Nothing is done where that VAE is younger than the training; else the latents of the one before it go.
    """
    written = folder / "vae" / "diffusion_pytorch_model.safetensors"
    if written.exists() and written.stat().st_mtime > (folder / "vae.pt").stat().st_mtime:
        return
    shutil.rmtree(folder / "latents", ignore_errors=True)
    vae = make_vae()
    load_averaged(folder, "vae", nn.ModuleDict({"vae": vae}))
    shards = open_pictures(folder / "pictures", seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        batches = [vae.encode(draw_batch(shards, 20, generator)).latent_dist.mode() for _ in range(samples // 20)]
    latents = torch.cat(batches)
    whiten(vae, latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)))
    vae.half().save_pretrained(folder / "vae")


def export_unet(folder: Path) -> None:
    """Write the averaged U-Net and text encoder to ``folder``/unet and ``folder``/text_encoder in half precision."""
    vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    parts = {"unet": make_unet(), "text_encoder": make_text_encoder(vocabulary)}
    load_averaged(folder, "unet", nn.ModuleDict(parts))
    for name, part in parts.items():
        part.half().save_pretrained(folder / name)


def ship(folder: Path, weights: Path, parts: tuple[str, ...]) -> None:
    """Copy the finished ``parts`` from the training folder to where Kiln loads them from."""
    for part in parts:
        shutil.rmtree(weights / part, ignore_errors=True)
        shutil.copytree(folder / part, weights / part)
        for file in (weights / part).iterdir():
            file.chmod(0o644)
