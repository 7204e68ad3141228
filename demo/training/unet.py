"""Latents and captions in, a trained U-Net and text encoder out."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from torch.nn.functional import avg_pool2d
from transformers import CLIPTokenizer

from common.styles import DEFAULT_NEGATIVE_PROMPT, apply_style
from demo.captions import DEMO_PROMPTS, empty_prompt, prompt
from demo.shapes import FACTOR, LATENTS, NATIVE, POSITIONS, SCALING, SMALL, make_text_encoder, make_unet
from demo.training.loop import fastest_device
from demo.training.pictures import SHARD, open_pictures, scene_at
from demo.training.vae import write_sheet
from demo.world.scene import Scene
from worker.diffusion.schedules import make_scheduler

EMPTY = 0.10  # of the captions: guidance needs to know what "no prompt" looks like
OFFSET = 0.1  # noise of a whole channel: without it the mean of the noise decides brightness and color
# Of each size: the limit of Hang et al. 2023, arXiv:2303.09556, and the exponent that shares out the steps. At half the
# size composition and colors are learned, most of all in the noisy steps; at the whole size edges and surfaces too.
EMPHASIS = {SMALL: (5.0, 0.75), NATIVE: (15.0, 1.0)}
# How often a picture is trained on, where one is the rule: riders, the hardest scenes, came out as one white heap.
RIDERS = 4.0
FREQUENT = {"dog": 2.0, "car": 2.0, "flower": 2.0}
SHOWN_STYLES = ("photographic", "cinematic", "anime", "lineart", "gogh", "pixelart", "comic", "surrealistic")


class UnetTask:
    """Noise is added to a picture's latents, and the U-Net, told the caption, says which noise it was."""

    def __init__(self, folder: Path, seed: int, size: int) -> None:
        self.folder, self.seed, self.size = folder, seed, size
        self.batch = 32 if size == NATIVE else 64
        self.latents = load_latents(folder, seed, size)
        scenes = (scene_at(seed, place) for place in range(len(self.latents)))
        self.frequencies = torch.tensor([frequency(scene) for scene in scenes])
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.unet = make_unet()
        self.unet.set_attn_processor(AttnProcessor())  # its backward pass is 1.5 times as fast here as the fused one's
        self.text_encoder = make_text_encoder(json.loads((folder / "tokenizer" / "vocab.json").read_text()))
        self.modules = nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})
        self.noising = DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        shares = self.noising.alphas_cumprod
        ratio = shares / (1 - shares)
        limit, self.exponent = EMPHASIS[size]
        self.weights = ratio.clamp(max=limit) / ratio

    def loss(self, generator: torch.Generator) -> torch.Tensor:
        places = torch.multinomial(self.frequencies, self.batch, replacement=True, generator=generator)
        latents = self.latents[places].float()
        noise = torch.randn(latents.shape, generator=generator)
        noise += OFFSET * torch.randn((self.batch, LATENTS, 1, 1), generator=generator)
        steps = (1000 * torch.rand(self.batch, generator=generator) ** self.exponent).long()
        noisy = self.noising.add_noise(latents, noise, steps)
        tokens = self._tokens(places.tolist(), int(torch.randint(2**31, (1,), generator=generator)))
        device = self.unet.device
        with torch.autocast(device.type, torch.bfloat16):
            said = self.text_encoder(tokens.to(device)).last_hidden_state
            guess = self.unet(noisy.to(device), steps.to(device), encoder_hidden_states=said).sample
        errors = (guess.float() - noise.to(device)).square().mean(dim=(1, 2, 3)).cpu()
        weighted: torch.Tensor = (errors * self.weights[steps]).mean()
        return weighted

    def _tokens(self, places: list[int], seed: int) -> torch.Tensor:
        rng = random.Random(seed)
        texts = [
            empty_prompt(rng) if rng.random() < EMPTY else prompt(scene_at(self.seed, place), rng) for place in places
        ]
        return tokenize(self.tokenizer, texts)

    def show(self, averaged: nn.ModuleDict, path: Path) -> None:
        """The seed's four prompts, a row each, in all eight styles."""
        vae = AutoencoderKL.from_pretrained(self.folder / "vae").eval()
        rows = []
        for number, said in enumerate(DEMO_PROMPTS):
            texts = [apply_style(said, style) for style in SHOWN_STYLES]
            rows.append(paint(texts, averaged, self.tokenizer, vae, seed=number, size=self.size))
        write_sheet(torch.cat(rows), path, columns=len(SHOWN_STYLES))


def frequency(scene: Scene) -> float:
    """How much more often than others pictures of ``scene`` are trained on."""
    return RIDERS if scene.rider else FREQUENT.get(scene.thing or "", 1.0)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Tokens (n, POSITIONS), cut and padded as the pipeline does."""
    tokens: torch.Tensor = tokenizer(
        texts, padding="max_length", truncation=True, max_length=POSITIONS, return_tensors="pt"
    ).input_ids
    return tokens


@torch.no_grad()
def paint(
    texts: list[str], modules: nn.ModuleDict, tokenizer: CLIPTokenizer, vae: AutoencoderKL, *, seed: int,
    size: int = NATIVE, steps: int = 20, guidance: float = 7.5,
) -> torch.Tensor:  # fmt: skip
    """One picture (3, size, size) in -1..1 for each text, all from different noise."""
    device = next(modules.parameters()).device
    tokens = tokenize(tokenizer, [DEFAULT_NEGATIVE_PROMPT] * len(texts) + texts).to(device)
    said = modules["text_encoder"](tokens).last_hidden_state
    scheduler = make_scheduler("dpm_solver_multistep")
    scheduler.set_timesteps(steps)
    side = size // FACTOR
    latents = torch.randn((len(texts), LATENTS, side, side), generator=torch.Generator().manual_seed(seed))
    latents = (latents * scheduler.init_noise_sigma).to(device)
    for step in scheduler.timesteps:
        rows = scheduler.scale_model_input(torch.cat([latents] * 2), step)
        without, wanted = modules["unet"](rows, step, encoder_hidden_states=said).sample.chunk(2)
        latents = scheduler.step(without + guidance * (wanted - without), step, latents).prev_sample
    pictures: torch.Tensor = vae.decode(latents.cpu() / SCALING).sample
    return pictures


@torch.no_grad()
def encode_shard(folder: Path, seed: int, number: int, size: int) -> None:
    """Write the latents of picture shard ``number``, shrunk to ``size``, unless they are there.

    (SHARD, LATENTS, size / FACTOR, size / FACTOR) as float16.
    """
    path = latents_path(folder, seed, number, size)
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    device = fastest_device()
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval().to(device)
    pictures = open_pictures(folder / "pictures", seed)[number]
    done = []
    for start in range(0, SHARD, 24):
        some = torch.from_numpy(pictures[start : start + 24].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16):
            latents = vae.encode(avg_pool2d(some, NATIVE // size).to(device)).latent_dist.mode()
        done.append((latents.float() * SCALING).half().cpu().numpy())
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.save(file, np.concatenate(done))
    unfinished.rename(path)


def load_latents(folder: Path, seed: int, size: int) -> torch.Tensor:
    """All pictures of drawing ``seed``, encoded at ``size``, in their order."""
    shards: list[torch.Tensor] = []
    while (path := latents_path(folder, seed, len(shards), size)).exists():
        shards.append(torch.from_numpy(np.load(path)))
    return torch.cat(shards)


def latents_path(folder: Path, seed: int, number: int, size: int) -> Path:
    return folder / "latents" / f"{seed}-{size}-{number:04}.npy"
