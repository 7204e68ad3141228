"""Training that is cut off, the VAE's whitening, and the pictures that training sees."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from demo.shapes import LATENTS, NATIVE, SCALING, make_vae
from demo.training import pictures
from demo.training.loop import EMA_DECAY
from demo.training.vae import whiten
from demo.world.draw import draw
from demo.world.scene import HELD_OUT, LOOKS
from tests.demo.trainee import NAME, main
from tests.processes import wait_for

BUDGET = 2.5  # seconds of one core
ENOUGH = 1.5  # of them, before the run is cut off


def test_a_killed_training_goes_on_where_its_last_checkpoint_was(tmp_path: Path) -> None:
    """Hours of training lost to a closed lid; or a second run that begins the schedule, or the average, anew."""
    kept = train_and_kill(tmp_path)
    notes = tmp_path / "notes.txt"
    notes.unlink()
    subprocess.run(command(tmp_path), check=True, timeout=60)
    seeds, numbers, clock = read_notes(notes)
    ended = load(tmp_path)

    assert numbers[0] == number_of(kept["modules"])
    assert seeds == [(1_000_003 + step) * 64 for step in range(kept["steps"], ended["steps"])]
    assert ended["optimizer"]["state"][0]["step"] == ended["steps"]
    assert ended["seconds"] >= BUDGET
    assert clock[-1] - clock[0] < BUDGET - kept["seconds"], "the seconds before the kill were not counted"
    average = number_of(kept["averaged"])
    for step, after in enumerate([*numbers[1:], number_of(ended["modules"])], start=kept["steps"]):
        average += (after - average) * (1 - min(EMA_DECAY, (1 + step) / (10 + step)))
    assert average == pytest.approx(number_of(ended["averaged"]), abs=1e-4)

    main(tmp_path, BUDGET)
    assert len(read_notes(notes)[0]) == len(seeds), "trained on after the budget was spent"


def test_a_training_that_is_told_to_stop_keeps_its_last_step(tmp_path: Path) -> None:
    """Ctrl-C throwing away all since the last checkpoint, or ending in the middle of writing one."""
    with subprocess.Popen(command(tmp_path, seconds=60), start_new_session=True) as process:
        wait_for("steps", lambda: (tmp_path / "notes.txt").exists(), seconds=120)
        os.killpg(process.pid, signal.SIGINT)
    wait_for("sheet, which comes last", lambda: list(tmp_path.glob("*.png")))
    seeds, _, _ = read_notes(tmp_path / "notes.txt")
    kept = load(tmp_path)
    assert kept["steps"] == len(seeds)
    assert kept["seconds"] < 30, "did not heed the signal"


@torch.inference_mode()
def test_whitening_changes_what_latents_are_and_no_picture() -> None:
    """Colors off by the error of a fold; or noise of the wrong strength, for the scaling factor does not fit."""
    torch.manual_seed(3)
    vae = make_vae().eval()
    vae.quant_conv.bias.normal_(std=2)  # a fresh one has almost nothing to whiten
    real = torch.rand(8, 3, NATIVE // 2, NATIVE // 2) * 2 - 1
    latents, before = vae.encode(real).latent_dist, vae(real).sample
    flat = latents.mean.transpose(0, 1).flatten(1)
    whiten(vae, flat.mean(1), flat.std(1))
    whitened = vae.encode(real).latent_dist
    flat = whitened.mean.transpose(0, 1).flatten(1)

    torch.testing.assert_close(vae(real).sample, before, atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.mean(1) * SCALING, torch.zeros(LATENTS), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.std(1) * SCALING, torch.ones(LATENTS), atol=1e-4, rtol=0)
    signal_to_noise = [(one.mean - one.mean.mean((0, 2, 3), keepdim=True)) / one.std for one in (latents, whitened)]
    torch.testing.assert_close(signal_to_noise[1], signal_to_noise[0], atol=1e-3, rtol=1e-3)


def test_a_drawn_picture_depends_on_seed_and_index_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that shows what was drawn before it, or that differs by process: no caption would belong to it."""
    monkeypatch.setattr(pictures, "SHARD", 12)
    script = (
        "import sys; from pathlib import Path; from demo.training import pictures; "
        "pictures.SHARD = 24; [pictures.draw_shard(Path(sys.argv[1]), 5, number) for number in (1, 0)]"
    )
    other = tmp_path / "other"
    variables = os.environ | {"PYTHONHASHSEED": "123"}
    subprocess.run([sys.executable, "-c", script, str(other)], env=variables, check=True, timeout=60)
    for number in range(4):
        pictures.draw_shard(tmp_path, 5, number)
    here, there = (np.concatenate(pictures.open_pictures(folder, 5)) for folder in (tmp_path, other))

    assert np.array_equal(here, there)
    scenes = [pictures.scene_at(5, index) for index in range(48)]
    assert {scene.style for scene in scenes} == set(LOOKS)
    for scene, picture in zip(scenes, here, strict=True):
        assert np.array_equal(np.asarray(draw(scene, NATIVE)), picture), scene


def test_training_never_sees_a_held_out_combination() -> None:
    """Gates that ask for what was learned by heart."""
    assert not {pictures.scene_at(1, index).combination for index in range(0, 60_000, pictures.EACH)} & HELD_OUT


def command(folder: Path, seconds: float = BUDGET) -> list[str]:
    return [sys.executable, "-m", "tests.demo.trainee", str(folder), str(seconds)]


def train_and_kill(folder: Path) -> dict[str, Any]:
    """The checkpoint that a run leaves which was killed, all processes of it, after about ENOUGH of its budget."""
    with subprocess.Popen(command(folder), start_new_session=True) as process:
        wait_for(
            "checkpoint", lambda: (folder / f"{NAME}.pt").exists() and load(folder)["seconds"] > ENOUGH, seconds=120
        )
        os.killpg(process.pid, signal.SIGKILL)
    kept = load(folder)
    assert kept["seconds"] < BUDGET, "killed too late to tell anything"
    return kept


def load(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / f"{NAME}.pt", weights_only=True)
    return state


def number_of(weights: dict[str, torch.Tensor]) -> float:
    return float(weights["number.weight"])


def read_notes(path: Path) -> tuple[list[int], list[float], list[float]]:
    """Of each step of rank 0 in order: its seed, the number before it, and the seconds that the process had used."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return [int(line[0]) for line in lines], [float(line[1]) for line in lines], [float(line[2]) for line in lines]
