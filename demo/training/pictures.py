"""A seed in; drawn pictures in shards on the disk, and the scene that each of them shows, out."""

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.shapes import NATIVE
from demo.world.draw import paint
from demo.world.looks import LOOK_PAINTERS
from demo.world.scene import LOOKS, Scene, sample_scene

Pictures = NDArray[np.uint8]  # (n, size, size, 3)
SHARD = 1200  # pictures a file: what is lost at most when the drawing is cut off
EACH = 4  # styles in which every painted scene is finished: painting costs more than finishing


def scene_at(seed: int, index: int) -> Scene:
    """Picture ``index`` of drawing ``seed`` shows this scene: the same each time, so only pictures need be kept."""
    rng = random.Random(f"{seed}/{index // EACH}")
    styles = rng.sample(LOOKS, EACH)
    return replace(sample_scene(rng), style=styles[index % EACH])


def draw_shard(folder: Path, seed: int, number: int, size: int = NATIVE) -> None:
    """Write shard ``number`` of drawing ``seed``, ``size`` pixels a side, unless it is there."""
    path = shard_path(folder, seed, number)
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for first in range(number * SHARD, (number + 1) * SHARD, EACH):
        scenes = [scene_at(seed, first + offset) for offset in range(EACH)]
        canvas = paint(scenes[0], size)
        pictures += [np.asarray(LOOK_PAINTERS[scene.style](canvas, scene, size)) for scene in scenes]
    unfinished = path.with_suffix(f".{os.getpid()}")
    with unfinished.open("wb") as file:
        np.save(file, np.stack(pictures))
    unfinished.rename(path)


def open_pictures(folder: Path, seed: int) -> list[Pictures]:
    """All shards of drawing ``seed`` from the first to the last without a gap, mapped, not read."""
    shards: list[Pictures] = []
    while (path := shard_path(folder, seed, len(shards))).exists():
        shards.append(np.load(path, mmap_mode="r"))
    return shards


def shard_path(folder: Path, seed: int, number: int) -> Path:
    return folder / f"{seed}-{number:04}.npy"
