"""The real loading path at the real size: random weights in the shape of sd-v1-4, one step at 512 x 512."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from common.models import BUILT_IN, PARTS
from tests.worker.fullsize import COMMIT, write_full_size
from worker.weights import Model, load_model

GIB = 1 << 30


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_full_size_loads_and_makes_a_step_within_24_gib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    lines: list[str] = []
    with timed("write the files", lines):
        write_full_size(tmp_path)

    with timed("load_model", lines):
        model = load_model(
            "sd-v1-4", BUILT_IN["sd-v1-4"], home=tmp_path, device=torch.device("cpu"), dtype=torch.float32
        )
    with timed("one step at 512 x 512 with guidance", lines):
        latents = one_step(model)
    with timed("decode", lines), torch.inference_mode():
        picture = model.vae.decode(latents / model.vae.config.scaling_factor).sample
    peak = peak_bytes()
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join([*lines, f"peak memory: {peak / GIB:.1f} GiB"]) + "\n")

    assert sum(weight.numel() for weight in model.unet.parameters()) == 859_520_964
    assert model.text_encoder.config.vocab_size == 49408
    assert model.revisions == dict.fromkeys(PARTS, COMMIT)
    assert picture.shape == (1, 3, 512, 512)
    assert picture.isfinite().all()
    assert peak < 24 * GIB


@torch.inference_mode()
def one_step(model: Model) -> torch.Tensor:
    """Latents [1, 4, 64, 64] after the first of 20 steps."""
    tokens = model.tokenizer(["", "an orange cat"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    text = model.text_encoder(tokens).last_hidden_state
    assert text.shape == (2, 77, 768)
    scheduler = DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(20)
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    step = scheduler.timesteps[0]
    without, with_prompt = model.unet(latents.expand(2, -1, -1, -1), step, text).sample.chunk(2)
    stepped: torch.Tensor = scheduler.step(without + 7.5 * (with_prompt - without), step, latents).prev_sample
    return stepped


@contextmanager
def timed(what: str, lines: list[str]) -> Iterator[None]:
    began = time.monotonic()
    yield
    lines.append(f"{what}: {time.monotonic() - began:.1f} s")


def peak_bytes() -> int:
    """The most memory that this process has had; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
