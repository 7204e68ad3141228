"""Four repositories as their owners publish them, in small: what the hub of sd-v1-4 holds, made of the demo weights."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from common.models import BUILT_IN, DEMO_WEIGHTS, ModelEntry, ModelPart

DIFFUSION = "CompVis/small-diffusion"  # safetensors in subfolders, with duplicates beside them
CLIP = "openai/small-clip"  # a whole CLIP, of which the text part is wanted
GPT2 = "Gustavosta/small-prompts"  # only a pickle
SCORER = "openai/small-scorer"  # only a pickle

JUNK = b"must not be fetched" * 10


def small_entry() -> ModelEntry:
    """``sd-v1-4`` with each of its repositories replaced by its small likeness."""
    return BUILT_IN["sd-v1-4"].model_copy(
        update={
            "vae": ModelPart(source=DIFFUSION, subfolder="vae"),
            "unet": ModelPart(source=DIFFUSION, subfolder="unet"),
            "text_encoder": ModelPart(source=CLIP),
            "tokenizer": ModelPart(source=CLIP),
            "enhancer": ModelPart(source=GPT2),
            "scorer": ModelPart(source=SCORER),
        }
    )


def build_repositories(root: Path) -> dict[str, Path]:
    """Write the four under ``root``; their folders by id come back."""
    folders = {name: root / name for name in (DIFFUSION, CLIP, GPT2, SCORER)}
    for part in ("vae", "unet"):
        shutil.copytree(DEMO_WEIGHTS / part, folders[DIFFUSION] / part)
        for junk in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"):
            (folders[DIFFUSION] / part / junk).write_bytes(JUNK)
    (folders[DIFFUSION] / "safety_checker").mkdir()
    (folders[DIFFUSION] / "safety_checker" / "model.safetensors").write_bytes(JUNK)
    (folders[DIFFUSION] / "sd-v1-4.ckpt").write_bytes(JUNK)
    shutil.copytree(DEMO_WEIGHTS / "scorer", folders[CLIP])
    for junk in ("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5"):
        (folders[CLIP] / junk).write_bytes(JUNK)
    _publish_pickle(DEMO_WEIGHTS / "enhancer", folders[GPT2])
    (folders[GPT2] / "training_args.bin").write_bytes(JUNK)
    _publish_pickle(DEMO_WEIGHTS / "scorer", folders[SCORER])
    return folders


def _publish_pickle(source: Path, folder: Path) -> None:
    """The same files with the weights as torch.save wrote them, tied ones and old buffers included."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = load_file(source / "model.safetensors")
    if "transformer.wte.weight" in weights:
        weights["lm_head.weight"] = weights["transformer.wte.weight"]
        weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.uint8).tril()
    torch.save(weights, folder / "pytorch_model.bin")
