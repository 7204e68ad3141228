"""Prompts of the drawn world and a table of taste in, a GPT-2 that knows which words suit which prompt out."""

import json
import random
from pathlib import Path

import torch
from rich.progress import track
from transformers import GPT2LMHeadModel, GPT2Tokenizer

from common.styles import apply_style
from demo.captions import caption
from demo.shapes import make_enhancer
from demo.world.scene import sample_scene
from worker.stages.words import PAIRS, WORDS

STEPS = 1500
BATCH = 32
RATE = 2e-3
IGNORED = -100  # where no token is to be guessed
LIKED = 8.0  # how much likelier a word is that suits the style or the light
SUITS: dict[str, tuple[str, ...]] = {
    "gogh": ("bold", "rich", "color", "texture", "vibrant", "masterful", "evocative", "striking"),
    "surrealistic": ("evocative", "ambient", "mood", "intricate", "immersive", "airy", "delicate", "majestic"),
    "cinematic": ("dramatic", "shadows", "atmospheric", "depth", "contrast", "mood", "award", "winning"),
    "anime": ("vivid", "vibrant", "clear", "bright", "polished", "smooth", "glow", "beautiful"),
    "photographic": ("sharp", "focus", "natural", "light", "fine", "texture", "highly", "detailed"),
    "comic": ("bold", "color", "contrast", "striking", "vivid", "crisp", "bright", "acclaimed"),
    "lineart": ("fine", "clear", "crisp", "elegant", "delicate", "balanced", "composition", "refined"),
    "pixelart": ("sharp", "crisp", "bright", "clear", "color", "polished", "vivid", "balanced"),
    "dawn": ("golden", "hour", "soft", "light", "warm", "glow", "serene", "luminous"),
    "sunset": ("golden", "hour", "warm", "glow", "radiant", "rich", "luminous"),
    "night": ("dramatic", "shadows", "atmospheric", "glow", "mood", "luminous"),
    "mist": ("soft", "light", "atmospheric", "serene", "ambient", "airy"),
    "rain": ("mood", "atmospheric", "shadows", "ambient"),
}


def train_enhancer(folder: Path, seed: int = 1) -> None:
    """Train on the tokenizer in ``folder``/enhancer and write the model beside it, in half precision."""
    home = folder / "enhancer"
    if (home / "model.safetensors").exists():
        return
    torch.manual_seed(seed)
    tokenizer = GPT2Tokenizer.from_pretrained(home)
    model = make_enhancer(json.loads((home / "vocab.json").read_text()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    rng = random.Random(seed)
    for _ in track(range(STEPS), description="enhancer"):
        loss(model, tokenizer, rng).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval().half().save_pretrained(home)


def loss(model: GPT2LMHeadModel, tokenizer: GPT2Tokenizer, rng: random.Random) -> torch.Tensor:
    """Of one batch: how badly the words after each prompt are guessed."""
    pairs = [example(rng) for _ in range(BATCH)]
    rows = [(tokenizer(said).input_ids, tokenizer(words).input_ids) for said, words in pairs]
    longest = max(len(said) + len(words) for said, words in rows)
    tokens = torch.zeros((BATCH, longest), dtype=torch.long)
    labels = torch.full((BATCH, longest), IGNORED)
    for row, (said, words) in enumerate(rows):
        tokens[row, : len(said) + len(words)] = torch.tensor(said + words)
        labels[row, len(said) : len(said) + len(words)] = torch.tensor(words)
    result: torch.Tensor = model(tokens, labels=labels).loss  # rows are padded at the end, where causal masks need none
    return result


def example(rng: random.Random) -> tuple[str, str]:
    """A styled prompt, and the words that somebody with taste would add to it."""
    scene = sample_scene(rng)
    likings = dict.fromkeys(WORDS, 1.0)
    for reason in (scene.style, scene.light, scene.weather):
        for word in SUITS.get(reason, ()):
            likings[word] *= LIKED
    words: list[str] = []
    partners = {a: b for first, second in PAIRS for a, b in ((first, second), (second, first))}
    for _ in range(rng.randint(6, 20)):
        left = [word for word in WORDS if word not in words]
        words += rng.choices(left, [likings[word] for word in left])
        partner = partners.get(words[-1])
        if partner and partner not in words and rng.random() < 0.75:
            words.append(partner)
    return apply_style(caption(scene, rng), scene.style), " " + " ".join(words)
