"""The files of sd-v1-4 in their real sizes with random weights, written as `kiln models pull` leaves them. 3.4 GB."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, GPT2Config, GPT2LMHeadModel

from common.models import BUILT_IN, DEMO_WEIGHTS, PARTS, PartName
from worker.parts import LAYOUTS, choose_files
from worker.pull import part_key, repository_folder
from worker.record import FileRecord, Record, file_sha256, read_record, write_record

COMMIT = "0" * 40

UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
GPT2: dict[str, Any] = {"model_type": "gpt2"}  # the class's defaults are GPT-2 small
_LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
_LARGE_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}
CLIP_LARGE: dict[str, Any] = {
    "model_type": "clip",
    "projection_dim": 768,
    "text_config": {**_LARGE_TEXT, "projection_dim": 768, "vocab_size": 49408, "eos_token_id": 2},
    "text_config_dict": {**_LARGE_TEXT, "projection_dim": 768},
    "vision_config": {**_LARGE_VISION, "projection_dim": 768, "patch_size": 14},
    "vision_config_dict": {**_LARGE_VISION, "projection_dim": 768, "patch_size": 14},
}
CLIP_BASE: dict[str, Any] = {
    "model_type": "clip",
    "projection_dim": 512,
    "text_config": {"vocab_size": 49408, "eos_token_id": 2},  # the class's defaults are CLIP base
    "vision_config": {"patch_size": 16},
}


def write_full_size(home: Path) -> None:
    """Put every part of sd-v1-4 under ``home``, as float16, with the records of a finished pull."""
    entry = BUILT_IN["sd-v1-4"]
    with torch.device("meta"):
        shapes: dict[PartName, tuple[torch.nn.Module, dict[str, Any]]] = {
            "vae": (AutoencoderKL.from_config(VAE), VAE),
            "unet": (UNet2DConditionModel.from_config(UNET), UNET),
            "text_encoder": (CLIPModel(CLIPConfig(**CLIP_LARGE)), CLIP_LARGE),
            "enhancer": (GPT2LMHeadModel(GPT2Config(**GPT2)), GPT2),
            "scorer": (CLIPModel(CLIPConfig(**CLIP_BASE)), CLIP_BASE),
        }
    for part, (module, config) in shapes.items():
        folder = repository_folder(home, entry.part(part)) / entry.part(part).subfolder
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        save_file(_random_weights(module), folder / LAYOUTS[part].safetensors, {"format": "pt"})
    for part, shipped in (("tokenizer", "tokenizer"), ("enhancer", "enhancer"), ("scorer", "scorer")):
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            shutil.copy(DEMO_WEIGHTS / shipped / name, repository_folder(home, entry.part(part)))
    preprocessor = json.loads((DEMO_WEIGHTS / "scorer" / "preprocessor_config.json").read_text())
    preprocessor |= {"size": 224, "crop_size": 224}
    (repository_folder(home, entry.scorer) / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    for part in PARTS:
        _record(home, part)


def _random_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Norms of one, biases of zero, and slices of one block of noise for the rest: seconds, not minutes."""
    noise = (torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * 0.02).half()
    weights = {}
    for name, shape in ((name, value.shape) for name, value in module.state_dict().items()):
        if name == "lm_head.weight":
            continue  # tied to the token embedding
        if len(shape) < 2:
            weights[name] = torch.full(shape, 1.0 if name.endswith("weight") else 0.0, dtype=torch.float16)
        else:
            weights[name] = noise.repeat(shape.numel() // len(noise) + 1)[: shape.numel()].reshape(shape)
    return weights


def _record(home: Path, part: PartName) -> None:
    origin = BUILT_IN["sd-v1-4"].part(part)
    folder = repository_folder(home, origin)
    inside = folder / origin.subfolder
    paths = [
        (inside / name).relative_to(folder).as_posix()
        for name in choose_files(part, [file.name for file in inside.iterdir()])
    ]
    record = read_record(folder) or Record(origin.source, origin.revision, COMMIT)
    for path in paths:
        record = record.with_file(path, FileRecord((folder / path).stat().st_size, file_sha256(folder / path)))
    write_record(folder, record.with_part(part_key(part, origin), paths))
