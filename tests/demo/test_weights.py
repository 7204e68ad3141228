"""The shipped weights: small, in half precision, in the shapes that training makes, with a card and a license."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTokenizer

from common.models import DEMO_WEIGHTS, PARTS
from demo.gates import JUDGES
from demo.shapes import make_scorer, make_text_encoder, make_unet, make_vae

LARGEST = 60_000_000  # bytes, all parts together


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def test_all_parts_together_are_small_and_described() -> None:
    files = [path for path in DEMO_WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    card = (DEMO_WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert all(f"`{part}`" in card for part in PARTS)
    assert "license: cc0-1.0" in card
    assert "CC0-1.0" in (DEMO_WEIGHTS / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("part", [*DEMO_WEIGHTS.rglob("*.safetensors"), *JUDGES.rglob("*.safetensors")])
def test_every_weight_is_in_half_precision(part: Path) -> None:
    kinds = {weight.dtype for weight in load_file(part).values() if weight.is_floating_point()}
    assert kinds == {torch.float16}


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder", "scorer"])
def test_what_training_makes_is_what_ships(part: str) -> None:
    """Shapes changed after the training: `make train-demo` would make another model than the one that is tested."""
    vocabulary = CLIPTokenizer.from_pretrained(DEMO_WEIGHTS / "tokenizer", local_files_only=True).get_vocab()
    makers = {"text_encoder": lambda: make_text_encoder(vocabulary), "scorer": lambda: make_scorer(vocabulary)}
    module: nn.Module = ({"vae": make_vae, "unet": make_unet} | makers)[part]()
    made = {name: weight.shape for name, weight in module.state_dict().items()}
    assert made == {name: weight.shape for name, weight in weights_of(DEMO_WEIGHTS / part).items()}
