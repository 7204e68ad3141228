"""What can be said about the drawn world in, the files of both tokenizers out.

``python -m demo.vocabulary FOLDER bpe_simple_vocab_16e6.txt.gz`` writes FOLDER/tokenizer and FOLDER/enhancer. The
second file is CLIP's own list of merges (in the open_clip_torch package on PyPI); it is needed only here.
"""

import gzip
import json
import random
import re
import sys
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel

from common.styles import DEFAULT_NEGATIVE_PROMPT, STYLES
from demo.captions import COLORS, DEMO_PROMPTS, prompt
from demo.shapes import END, GPT2_POSITIONS, POSITIONS, START
from demo.world.scene import sample_scene
from worker.stages.words import WORDS

Symbols = tuple[str, ...]  # of one word
Merge = tuple[str, str]
Vocabulary = tuple[dict[str, int], list[Merge]]  # tokens by text, merges in order

GPT2_MERGES = 700
SAYINGS = 20_000  # prompts of the drawn world that are read for their words
COMMON = (
    "the of and to in is it you that he was for on are with as his they be at one have this from or had by but some "
    "what there we can out other were all your when up use how said an each she which do their if will way about many "
    "then them would like so these her long make thing see him two has look more day could go come did my no most "
    "over know than call first people side been now find big small little old new young man woman girl boy child face "
    "hand eye eyes hair water fire earth sun moon star river lake hill garden road bridge castle tower king queen "
    "dragon wolf bear lion tiger rabbit fox mouse elephant butterfly train plane bike ball book chair table lamp "
    "window door cake bread fruit orange banana lemon portrait landscape painting photo picture drawing style art "
    "digital beautiful"
)


def clip_vocabulary(list_of_merges: Path) -> Vocabulary:
    """CLIP's layout with those of CLIP's own merges that our words need: 256 bytes, the same at the end of a word,
    merges, start, end. A word without merges of its own is spelled, so every text can be written."""
    lines = gzip.decompress(list_of_merges.read_bytes()).decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    rank = {(left, right): place for place, (left, right) in enumerate(line.split() for line in lines)}
    needed: set[Merge] = set()
    for word in sorted(words_said(r"[a-z]+|[0-9]|[^\w\s]+")):
        needed |= merges_of((*word[:-1], word[-1] + "</w>"), rank)
    merges = sorted(needed, key=rank.__getitem__)
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *map("".join, merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges


def gpt2_vocabulary() -> Vocabulary:
    """GPT-2's layout: 256 bytes, merges, end. A space, written as G with a dot, belongs to the word after it."""
    words = Counter({tuple(word.replace(" ", "Ġ")): count for word, count in words_said(r" ?\w+| ?[^\w\s]").items()})
    for word in WORDS:
        words[tuple(f"Ġ{word}")] += SAYINGS  # each of them is to be one token
    merges = learn_merges(words, GPT2_MERGES)
    tokens = [*sorted(ByteLevel.alphabet()), *map("".join, merges), END]
    return {token: number for number, token in enumerate(tokens)}, merges


@cache
def corpus() -> str:
    """What people and Kiln say: our templates and defaults, thousands of prompts of the world, common words."""
    rng = random.Random(0)
    said = [prompt(sample_scene(rng), rng) for _ in range(SAYINGS)]
    colors = [word for words in COLORS.values() for word in words]
    fixed = [*DEMO_PROMPTS, DEFAULT_NEGATIVE_PROMPT, *STYLES.values(), *WORDS, *colors, COMMON]
    return "\n".join([*(text.lower() for text in said), *fixed])


def words_said(pattern: str) -> Counter[str]:
    return Counter(re.findall(pattern, corpus().lower()))


def merges_of(word: Symbols, rank: dict[Merge, int]) -> set[Merge]:
    """The merges that byte pair encoding applies to ``word``, best rank first."""
    used: set[Merge] = set()
    while best := min((pair for pair in pairwise(word) if pair in rank), key=rank.__getitem__, default=None):
        used.add(best)
        word = merge(word, best)
    return used


def learn_merges(words: Counter[Symbols], count: int) -> list[Merge]:
    """The first ``count`` byte pair merges of ``words`` (Sennrich et al. 2016, arXiv:1508.07909).

    Ours because the ``tokenizers`` trainer breaks ties in another order each run.
    """
    merges: list[Merge] = []
    for _ in range(count):
        pairs: Counter[Merge] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = Counter({merge(word, best): times for word, times in words.items()})
    return merges


def merge(word: Symbols, pair: Merge) -> Symbols:
    """``word`` with every ``pair`` of neighbors made one symbol, from the left."""
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


def main(folder: Path, list_of_merges: Path) -> None:
    clip: dict[str, object] = {"bos_token": START, "pad_token": END, "model_max_length": POSITIONS}
    vocabulary = clip_vocabulary(list_of_merges)
    write_tokenizer(folder / "tokenizer", vocabulary, {"tokenizer_class": "CLIPTokenizer", **clip})
    gpt2: dict[str, object] = {"bos_token": END, "model_max_length": GPT2_POSITIONS}
    write_tokenizer(folder / "enhancer", gpt2_vocabulary(), {"tokenizer_class": "GPT2Tokenizer", **gpt2})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
