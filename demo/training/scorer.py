"""Seed and minutes in; a small CLIP that learned which caption belongs to which drawn scene out. Writes a folder."""

import json
import random
from math import log
from pathlib import Path
from shutil import copytree

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPModel, CLIPTokenizer

from demo.captions import caption, prompt
from demo.shapes import POSITIONS, SCORER_SIDE, SMALL, make_scorer, scorer_preprocessor
from demo.training.faults import move, soften, to_tensor
from demo.training.loop import Plan, load_averaged, train
from demo.training.pictures import SHARD, Pictures, draw_shard, scene_at, shard_path

SHARDS = 20  # drawn pictures to learn from; one more is kept unseen, for the report
# The cosines that published CLIPs give, roughly: 0.3 for a text that fits, 0.1 for one that does not.
FITS, DIFFERS, LOWEST = 0.31, 0.08, 0.02
CALIBRATION = 20.0  # weight of the distance from them
SHARPEST = log(100.0)  # of the softmax, as in CLIP (Radford et al., 2021), where the scale also begins


class ScorerTask:
    """Pictures with the faults of painted ones, and a caption each; the other pictures are what it must not fit."""

    batch = 128

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        self.seed = seed
        self.pictures = np.concatenate([open_small(folder / "small", seed, number) for number in range(SHARDS)])
        self.tokenizer = CLIPTokenizer.from_pretrained(str(folder / name))
        self.scorer = make_scorer(self.tokenizer.get_vocab())
        self.modules = nn.ModuleDict({"scorer": self.scorer})

    def loss(self, generator: torch.Generator) -> torch.Tensor:
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        chosen = rng.sample(range(len(self.pictures)), self.batch)
        seen = soften(move(to_tensor(self.pictures[chosen]), generator), generator)
        cosine = cosines(self.scorer, self.tokenizer, seen, [describe(self.seed, index, rng) for index in chosen])
        return contrast(cosine, self.scorer.logit_scale.clamp(max=SHARPEST).exp())

    def show(self, averaged: nn.ModuleDict, path: Path) -> None:
        """Nothing: what a scorer can do is no picture. See ``report``."""


def train_scorer(folder: Path, name: str, seed: int, minutes: float) -> None:
    """Write ``folder/name`` as scorers are published, float16, after ``minutes`` of training in one process.

    Its tokenizer is the text encoder's, as it is shipped. ``seed`` decides the scenes, their captions and the first
    weights. The drawing, if ``folder/pictures`` does not hold it yet, comes first (minutes) and is not counted.
    """
    for number in range(SHARDS + 1):
        draw_shard(folder / "small", seed, number, SMALL)
    copytree(folder / "tokenizer", folder / name, dirs_exist_ok=True)
    train(ScorerTask, (folder, name, seed), Plan(name, minutes, rate=1e-3, seed=seed, processes=1), folder)
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / name))
    scorer = make_scorer(tokenizer.get_vocab())
    load_averaged(folder, name, nn.ModuleDict({"scorer": scorer}))
    scorer.half().save_pretrained(folder / name)
    settings = json.dumps(scorer_preprocessor(), indent=2)
    (folder / name / "preprocessor_config.json").write_text(settings + "\n", encoding="utf-8")
    Console().log(f"{name}: {report(folder, name, seed)}")


def open_small(folder: Path, seed: int, number: int) -> Pictures:
    """Shard ``number`` of drawing ``seed`` at the scorer's size, made smaller the way its processor does."""
    size = (SCORER_SIDE, SCORER_SIDE)
    shard = np.load(shard_path(folder, seed, number))
    return np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in shard])


def describe(seed: int, index: int, rng: random.Random) -> str:
    """Scene ``index`` in the words of a user, or, as often, in those of the whole pipeline, style and all."""
    scene = scene_at(seed, index)
    return caption(scene, rng) if rng.random() < 0.5 else prompt(scene, rng)


def cosines(scorer: CLIPModel, tokenizer: CLIPTokenizer, pictures: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """Every text (rows) against every picture (columns); pictures (n, 3, SCORER_SIDE, SCORER_SIDE) in 0..1."""
    settings = scorer_preprocessor()
    mean, deviation = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    words = tokenizer(texts, padding=True, truncation=True, max_length=POSITIONS, return_tensors="pt").to(scorer.device)
    with torch.autocast(scorer.device.type, torch.bfloat16):
        output = scorer(**words, pixel_values=((pictures - mean) / deviation).to(scorer.device))
    return normalize(output.text_embeds.float(), dim=-1) @ normalize(output.image_embeds.float(), dim=-1).T


def contrast(cosine: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss (Radford et al., 2021), and the distance of the cosines from those that people know of CLIP.

    CLIP's loss sees differences only: without the second term a picture that fits may read 80, and another 60.
    """
    logits, right = cosine * scale, torch.arange(len(cosine), device=cosine.device)
    contrastive = (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2
    fitting, others = cosine.diagonal(), cosine[~torch.eye(len(cosine), dtype=torch.bool, device=cosine.device)]
    distance = (fitting - FITS).square().mean() + (others.mean() - DIFFERS).square()
    return contrastive + CALIBRATION * (distance + (LOWEST - others).relu().square().mean())


@torch.inference_mode()
def report(folder: Path, name: str, seed: int) -> str:
    """How often the written scorer finds the right caption of ten for unseen pictures, and what right and wrong get."""
    scorer = CLIPModel.from_pretrained(str(folder / name), dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / name))
    rng = random.Random(seed)
    chosen = rng.sample(range(SHARD), 600)
    pictures = to_tensor(open_small(folder / "small", seed, SHARDS)[chosen])
    told = []
    for words, write in (("captions", caption), ("prompts", prompt)):
        texts = [write(scene_at(seed, SHARDS * SHARD + index), rng) for index in chosen]
        fit = 100 * cosines(scorer, tokenizer, pictures, texts)
        right, wrong = fit.diagonal(), torch.stack([fit.roll(-by, dims=0).diagonal() for by in range(1, 10)])
        told.append(
            f"{words}: first of ten {(right >= wrong).all(dim=0).float().mean():.1%}, "
            f"right {right.mean():.1f} ± {right.std():.1f}, wrong {wrong.mean():.1f} ± {wrong.std():.1f}"
        )
    return "; ".join(told)
