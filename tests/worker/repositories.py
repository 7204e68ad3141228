"""Four repositories as their owners publish them, in small: what the hub of sd-v1-4 holds, made of the demo weights."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

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
    _name_attention_as_in_2022(folders[DIFFUSION] / "vae" / "diffusion_pytorch_model.safetensors")
    (folders[DIFFUSION] / "safety_checker").mkdir()
    (folders[DIFFUSION] / "safety_checker" / "model.safetensors").write_bytes(JUNK)
    (folders[DIFFUSION] / "sd-v1-4.ckpt").write_bytes(JUNK)
    shutil.copytree(DEMO_WEIGHTS / "scorer", folders[CLIP])
    for junk in ("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5"):
        (folders[CLIP] / junk).write_bytes(JUNK)
    _configure_as_in_2022(folders[CLIP])
    _publish_pickle(DEMO_WEIGHTS / "enhancer", folders[GPT2])
    (folders[GPT2] / "training_args.bin").write_bytes(JUNK)
    _publish_pickle(DEMO_WEIGHTS / "scorer", folders[SCORER])
    _configure_as_in_2022(folders[SCORER])
    return folders


def _publish_pickle(source: Path, folder: Path) -> None:
    """The same files with the weights as torch.save wrote them, tied ones and old buffers included."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = load_file(source / "model.safetensors")
    if "transformer.wte.weight" in weights:
        weights["lm_head.weight"] = weights["transformer.wte.weight"]
        weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.uint8).tril()
    torch.save(weights, folder / "pytorch_model.bin")


def _name_attention_as_in_2022(path: Path) -> None:
    """Stable Diffusion's own VAE file has the names that diffusers gave attention weights at first."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(path)
    for name in [name for name in weights if "attentions" in name]:
        renamed = name
        for new, first in old.items():
            renamed = renamed.replace(f".{new}.", f".{first}.")
        weights[renamed] = weights.pop(name)
    save_file(weights, path, {"format": "pt"})


def _configure_as_in_2022(folder: Path) -> None:
    """CLIP's config, tokenizer config and preprocessor config in the form that openai's repositories have."""
    config = json.loads((folder / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        config[tower] |= {"bad_words_ids": None, "torch_dtype": None, "transformers_version": "4.16.0.dev0"}
        config[tower + "_dict"] = None
    config["text_config"] |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config |= {"torch_dtype": "float32", "transformers_version": None}
    (folder / "config.json").write_text(json.dumps(config))
    end = {"content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    start = {**end, "content": "<|startoftext|>"}
    tokenizer = {"unk_token": {**end, "__type": "AddedToken"}, "eos_token": {**end, "__type": "AddedToken"}}
    tokenizer |= {"bos_token": {**start, "__type": "AddedToken"}, "pad_token": "<|endoftext|>", "errors": "replace"}
    tokenizer |= {"add_prefix_space": False, "do_lower_case": True, "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    preprocessor |= {"crop_size": 64, "size": 64, "feature_extractor_type": "CLIPFeatureExtractor"}
    for new in ("image_processor_type", "do_rescale", "rescale_factor", "do_convert_rgb"):
        del preprocessor[new]
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
