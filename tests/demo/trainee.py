"""A folder and seconds in; a task that learns one number, trained for so long, and a note of each step, out."""

import sys
import time
from pathlib import Path

import torch
from torch import nn

from demo.training.loop import Plan, train

NAME = "trainee"


class Trainee:
    """It wants its number large. Rank 0 notes, before every step, its seed, the number and the seconds used."""

    batch = 1

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes.txt"
        self.modules = nn.ModuleDict({"number": nn.Linear(1, 1, bias=False)})

    def loss(self, generator: torch.Generator) -> torch.Tensor:
        number = self.modules["number"].weight
        if generator.initial_seed() % 64 == 0:  # the seed's last six bits are the process's
            with self.notes.open("a") as file:
                file.write(f"{generator.initial_seed()} {number.item()} {time.process_time()}\n")
        return -number.sum() * torch.rand((), generator=generator)

    def show(self, averaged: nn.ModuleDict, path: Path) -> None:
        path.write_text(str(averaged["number"].weight.item()))


def main(folder: Path, seconds: float) -> None:
    train(Trainee, (folder,), Plan(NAME, seconds / 60, rate=1e-3, save_every=0.2), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
