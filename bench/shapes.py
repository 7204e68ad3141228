"""Models of random weights: of Stable Diffusion v1-4's real shape, and of a very small one. Nothing is read but a
tokenizer."""

from typing import Any, cast

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from common.models import DEMO_WEIGHTS
from worker.weights import Model

Config = dict[str, Any]

# The hub's configurations of CompVis/stable-diffusion-v1-4 and openai/clip-vit-large-patch14, without the defaults
UNET: Config = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE: Config = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
TEXT: Config = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "vocab_size": 49408,
    "eos_token_id": 2,
}

TINY_UNET: Config = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}
TINY_VAE: Config = VAE | {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 64,
}
TINY_TEXT: Config = TEXT | {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
}


def make_unet(config: Config) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet: UNet2DConditionModel = UNet2DConditionModel(**config).eval().requires_grad_(False)
    return unet


def make_model(device: torch.device, dtype: torch.dtype, *, tiny: bool) -> Model:
    """What the stage that paints needs: U-Net, VAE, text encoder and a tokenizer; no enhancer and no scorer."""
    unet, vae, text = (TINY_UNET, TINY_VAE, TINY_TEXT) if tiny else (UNET, VAE, TEXT)
    with device:
        torch.manual_seed(0)
        modules: dict[str, Any] = {
            "unet": make_unet(unet),
            "vae": AutoencoderKL(**vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**text)),
        }
    absent = cast(Any, None)
    return Model(
        name="tiny" if tiny else "sd-v1-4",
        **{name: module.to(device, dtype).eval().requires_grad_(False) for name, module in modules.items()},
        tokenizer=CLIPTokenizer.from_pretrained(str(DEMO_WEIGHTS / "tokenizer"), local_files_only=True),
        enhancer=absent,
        enhancer_tokenizer=absent,
        scorer=absent,
        scorer_tokenizer=absent,
        scorer_processor=absent,
        device=device,
        dtype=dtype,
        revisions={},
    )
