"""Minutes in; a very small network that names the style of a picture out. For the gates alone. Writes one file."""

import random
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from demo.shapes import SMALL
from demo.training.faults import soften, to_tensor
from demo.training.loop import Plan, load_averaged, train
from demo.training.pictures import SHARD, Pictures, draw_shard, scene_at, shard_path
from demo.world.scene import LOOKS

SEED = 77
SHARDS = 6  # drawn pictures to learn from; one more is kept unseen, for the report
FILE = "model.safetensors"


class StyleNet(nn.Module):
    """Pictures (n, 3, SMALL, SMALL) in 0..1 in, a logit for each of LOOKS out: it sees texture, hardly the thing."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 24), (24, 32), (32, 48), (48, 64)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * 64, len(LOOKS))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        seen = self.layers(2 * pictures - 1).flatten(2)
        logits: torch.Tensor = self.head(torch.cat([seen.mean(-1), seen.amax(-1)], dim=1))
        return logits


class StyleTask:
    """Pictures with the faults of painted ones, and the styles that they were drawn in."""

    batch = 64

    def __init__(self, folder: Path) -> None:
        shards = [np.load(shard_path(folder / "small", SEED, number)) for number in range(SHARDS)]
        self.pictures = np.concatenate(shards)
        self.net = StyleNet()
        self.modules = nn.ModuleDict({"styles": self.net})

    def loss(self, generator: torch.Generator) -> torch.Tensor:
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        chosen = rng.sample(range(len(self.pictures)), self.batch)
        truth = torch.tensor([LOOKS.index(scene_at(SEED, index).style) for index in chosen])
        device = self.net.head.weight.device
        seen = soften(to_tensor(self.pictures[chosen]), generator).to(device)
        return cross_entropy(self.net(seen), truth.to(device))

    def show(self, averaged: nn.ModuleDict, path: Path) -> None:
        """Nothing: a name is no picture."""


def train_styles(folder: Path, minutes: float) -> None:
    """Write ``folder/styles`` after ``minutes`` of training in one process; draws before, if need be."""
    for number in range(SHARDS + 1):
        draw_shard(folder / "small", SEED, number, SMALL)
    train(StyleTask, (folder,), Plan("styles", minutes, rate=3e-3, seed=SEED, processes=1), folder)
    modules = load_averaged(folder, "styles", nn.ModuleDict({"styles": StyleNet()}))
    weights = {name: weight.half() for name, weight in modules["styles"].state_dict().items()}
    (folder / "styles").mkdir(exist_ok=True)
    save_file(weights, folder / "styles" / FILE)
    named = name_styles(load_styles(folder / "styles"), np.load(shard_path(folder / "small", SEED, SHARDS)))
    truth = [scene_at(SEED, SHARDS * SHARD + index).style for index in range(SHARD)]
    right = sum(one == other for one, other in zip(named, truth, strict=True))
    Console().log(f"styles: {right / SHARD:.1%} of unseen pictures named")


def load_styles(folder: Path) -> StyleNet:
    """The network that lies in ``folder``, for inference in float32."""
    net = StyleNet()
    net.load_state_dict(load_file(folder / FILE))
    return net.eval().requires_grad_(False)


def name_styles(net: StyleNet, pictures: Pictures) -> list[str]:
    """The style of each picture (n, size, size, 3)."""
    named: list[str] = []
    for start in range(0, len(pictures), 100):
        seen = interpolate(to_tensor(pictures[start : start + 100]), size=(SMALL, SMALL), mode="area")
        named += [LOOKS[number] for number in net(seen).argmax(dim=1).tolist()]
    return named
