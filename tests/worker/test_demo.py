"""The shipped demo weights: that they come from demo/build.py, and that their pictures are not all one colour."""

from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import load_file

from common.models import BUILT_IN, DEMO_WEIGHTS
from demo.build import build
from worker.weights import Model, load_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    home = tmp_path_factory.mktemp("home")
    return load_model("demo", BUILT_IN["demo"], home=home, device=torch.device("cpu"), dtype=torch.float32)


def test_building_again_gives_the_weights_that_are_shipped(tmp_path: Path) -> None:
    build(tmp_path)

    shipped = sorted(path.relative_to(DEMO_WEIGHTS) for path in DEMO_WEIGHTS.rglob("*.safetensors"))
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.safetensors")) == shipped
    for path in shipped:
        built, stored = load_file(tmp_path / path), load_file(DEMO_WEIGHTS / path)
        assert built.keys() == stored.keys()
        # Not bit for bit: another processor may round a random draw otherwise.
        assert all(torch.allclose(built[name], stored[name], rtol=1e-2, atol=1e-3) for name in stored)


def test_the_shipped_set_is_a_few_megabytes_and_says_what_it_is() -> None:
    assert sum(path.stat().st_size for path in DEMO_WEIGHTS.rglob("*") if path.is_file()) < 4_000_000
    assert "random weights" in (DEMO_WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert not BUILT_IN["demo"].trained


def test_pictures_differ_by_seed_and_prompt_and_are_not_all_one_colour(model: Model) -> None:
    cat, apple = paint(model, "an orange cat", 1), paint(model, "a red apple", 1)
    other = paint(model, "an orange cat", 2)

    assert cat.std() > 20
    assert (cat.eq(0) | cat.eq(255)).float().mean() < 0.1
    assert (cat - apple).abs().mean() > 3
    assert (cat - other).abs().mean() > 10


@torch.inference_mode()
def paint(model: Model, prompt: str, seed: int) -> torch.Tensor:
    """Twenty steps at 128 x 128 with guidance 7.5: float pixels 0 to 255."""
    texts = ["", prompt]
    tokens = model.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    text = model.text_encoder(tokens).last_hidden_state
    scheduler = DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(20)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    for step in scheduler.timesteps:
        without, with_prompt = model.unet(latents.expand(2, -1, -1, -1), step, text).sample.chunk(2)
        noise = without + 7.5 * (with_prompt - without)
        latents = scheduler.step(noise, step, latents).prev_sample
    picture = model.vae.decode(latents / model.vae.config.scaling_factor).sample
    return ((picture.clamp(-1, 1) + 1) * 127.5).round()
