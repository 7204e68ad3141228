"""A seed in, demo/weights out: Stable Diffusion's parts in their true layout, small and random. Writes files.

Run ``python -m demo.build`` to write the committed folder again, or with another folder as its argument.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, GPT2Config, GPT2LMHeadModel

from common.models import DEMO_WEIGHTS
from common.styles import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT, STYLES

# One seed for each part. The scorer's is chosen: most random scorers see every picture at more than a right angle to
# every text, and a score that is always 0 would look like a fault.
SEEDS = {"vae": 14, "unet": 15, "text_encoder": 16, "enhancer": 17, "scorer": 45}
PROMPT_GAIN = 4.0  # of the cross attention's outputs: untrained, they hardly move the picture
MERGES = 256
WIDTH = 64  # of every transformer here
POSITIONS = 77  # of both text encoders, as in Stable Diffusion
GPT2_POSITIONS = 128
IMAGE = 64  # pixels a side that the scorer sees
Symbols = tuple[str, ...]  # of one word
Vocabulary = tuple[dict[str, int], list[tuple[str, str]]]  # tokens by text, merges in order

START, END = "<|startoftext|>", "<|endoftext|>"


def build(folder: Path) -> None:
    """Write vae, unet, text_encoder, tokenizer, enhancer and scorer under ``folder``, weights as float16."""
    clip, gpt2 = clip_vocabulary(), gpt2_vocabulary()
    makers: dict[str, Callable[[], torch.nn.Module]] = {
        "vae": make_vae,
        "unet": make_unet,
        "text_encoder": lambda: CLIPTextModel(text_config(clip[0])),
        "enhancer": lambda: GPT2LMHeadModel(gpt2_config(gpt2[0])),
        "scorer": lambda: CLIPModel(scorer_config(clip[0])),
    }
    for part, make in makers.items():
        save(make, folder / part, SEEDS[part])
    write_json(folder / "scorer" / "preprocessor_config.json", preprocessor())
    clip_settings: dict[str, object] = {"bos_token": START, "pad_token": END, "model_max_length": POSITIONS}
    write_tokenizer(folder / "tokenizer", clip, {"tokenizer_class": "CLIPTokenizer", **clip_settings})
    write_tokenizer(folder / "scorer", clip, {"tokenizer_class": "CLIPTokenizer", **clip_settings})
    gpt2_settings: dict[str, object] = {"bos_token": END, "model_max_length": GPT2_POSITIONS}
    write_tokenizer(folder / "enhancer", gpt2, {"tokenizer_class": "GPT2Tokenizer", **gpt2_settings})


def make_vae() -> AutoencoderKL:
    """Four levels, so factor 8, four latent channels, as in Stable Diffusion; only narrower."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 24, 32, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=128,
        scaling_factor=0.18215,
    )


def make_unet() -> UNet2DConditionModel:
    """Three levels with cross attention and one without, as in Stable Diffusion; only narrower and shallower."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(24, 32, 40, 40),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    for name, weight in unet.named_parameters():
        if name.endswith("attn2.to_out.0.weight"):
            weight.data *= PROMPT_GAIN
    return unet


def text_config(vocabulary: dict[str, int]) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        hidden_act="quick_gelu",
        projection_dim=WIDTH,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
    )


def gpt2_config(vocabulary: dict[str, int]) -> GPT2Config:
    end = vocabulary[END]
    return GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=GPT2_POSITIONS,
        n_embd=WIDTH,
        n_layer=2,
        n_head=4,
        bos_token_id=end,
        eos_token_id=end,
        initializer_range=0.2,  # wide, so that the words it draws depend on the prompt
    )


def scorer_config(vocabulary: dict[str, int]) -> CLIPConfig:
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": IMAGE,
        "patch_size": 8,
        "projection_dim": WIDTH,
    }
    return CLIPConfig(text_config=text_config(vocabulary).to_dict(), vision_config=vision, projection_dim=WIDTH)


def preprocessor() -> dict[str, object]:
    """The scorer's image preparation; the constants are the mean and deviation of CLIP's training pictures."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": IMAGE, "width": IMAGE},
        "size": {"shortest_edge": IMAGE},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 1 / 255,
    }


def save(make: Callable[[], torch.nn.Module], folder: Path, seed: int) -> None:
    """Draw the weights that ``make`` draws from ``seed`` and write them as float16 safetensors with their config."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
    module.half().save_pretrained(folder)  # type: ignore[operator]


def clip_vocabulary() -> Vocabulary:
    """CLIP's layout: 256 bytes, the same at the end of a word, merges, start, end. Every text can be written in it."""
    words = Counter((*word[:-1], word[-1] + "</w>") for word in re.findall(r"\w+|[^\w\s]", corpus().lower()))
    alphabet, merges = sorted(ByteLevel.alphabet()), learn_merges(words)
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *map("".join, merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges


def gpt2_vocabulary() -> Vocabulary:
    """GPT-2's layout: 256 bytes, merges, end. A space, written as G with a dot, belongs to the word after it."""
    words = Counter(tuple(word.replace(" ", "\u0120")) for word in re.findall(r" ?\w+| ?[^\w\s]", corpus()))
    merges = learn_merges(words)
    tokens = [*sorted(ByteLevel.alphabet()), *map("".join, merges), END]
    return {token: number for number, token in enumerate(tokens)}, merges


def corpus() -> str:
    """What the vocabularies are learned from: our own templates and default texts."""
    return "\n".join([DEFAULT_PROMPT, DEFAULT_NEGATIVE_PROMPT, *STYLES.values()])


def learn_merges(words: Counter[Symbols]) -> list[tuple[str, str]]:
    """The first MERGES byte pair merges of ``words`` (Sennrich et al. 2016, arXiv:1508.07909).

    Ours because the ``tokenizers`` trainer breaks ties in another order each run.
    """
    merges: list[tuple[str, str]] = []
    for _ in range(MERGES):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = Counter({merge(word, best): count for word, count in words.items()})
    return merges


def merge(word: Symbols, pair: tuple[str, str]) -> Symbols:
    """``word`` with every ``pair`` of neighbours made one symbol, from the left."""
    merged: list[str] = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


def write_tokenizer(folder: Path, vocabulary: Vocabulary, config: dict[str, object]) -> None:
    """Write vocab.json, merges.txt and tokenizer_config.json: the files that both tokenizers are published as."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens, merges = vocabulary
    write_json(folder / "vocab.json", tokens)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"unk_token": END, "eos_token": END, **config})


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO_WEIGHTS)
