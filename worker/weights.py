"""A model registry entry in, its six parts loaded onto the device out. Reads weights from disk, safetensors only."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextModel,
    CLIPTokenizer,
    GPT2LMHeadModel,
    GPT2Tokenizer,
)


@dataclass(frozen=True, slots=True)
class Model:
    """Everything one job needs, loaded once: only the device thread calls the modules."""

    name: str
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    enhancer: GPT2LMHeadModel
    enhancer_tokenizer: GPT2Tokenizer
    scorer: CLIPModel
    scorer_tokenizer: CLIPTokenizer
    scorer_processor: CLIPImageProcessorPil
    device: torch.device
    dtype: torch.dtype
    revisions: dict[str, str]  # part name -> hub commit, or "local" for a folder
