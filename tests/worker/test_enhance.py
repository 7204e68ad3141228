"""The enhancer: which words it may choose, that they are whole, and that a seed alone decides among them."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from common.styles import apply_style
from tests.worker.conftest import MakeSpec
from worker.diffusion.device import Device
from worker.stages.enhance import MAX_TOKENS, TOP_K, choose_words, enhance
from worker.stages.words import PAIRS, WORDS, put_pairs_first
from worker.weights import Model

SEEDS = range(6)


def test_every_chosen_word_is_whole_allowed_and_used_once(model: Model, device: Device, make_spec: MakeSpec) -> None:
    for seed in SEEDS:
        texts = enhance(make_spec(seed=seed), model, device)

        assert texts.styled_prompt == apply_style("an orange cat", "cinematic")
        words = enhancement(texts.enhanced_prompt, texts.styled_prompt).replace(",", "").split()
        assert words
        assert set(words) <= set(WORDS)
        assert len(words) == len(set(words))


def test_word_pairs_stand_together_and_first() -> None:
    assert put_pairs_first(["detailed", "bold", "focus", "highly", "sharp", "vivid", "soft"]) == [
        "highly detailed",
        "sharp focus",
        "bold",
        "vivid",
        "soft",
    ]


def test_pairs_that_were_chosen_stand_first_in_the_final_prompt(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    for seed in range(40):
        final = enhance(make_spec(prompt="x", style="none", seed=seed), model, device).enhanced_prompt
        parts = enhancement(final, "x").split(", ")
        words = {word for part in parts for word in part.split()}
        pairs = [" ".join(pair) for pair in PAIRS if {*pair} <= words]
        assert parts[: len(pairs)] == pairs
        assert not any(" " in part for part in parts[len(pairs) :])
        if pairs:
            return
    pytest.fail("no pair was chosen: nothing was shown")


def test_prompt_and_words_are_fifty_tokens_at_most_however_little_room_there_is(model: Model) -> None:
    for repeats in range(1, 30):
        text = "a cat" + " sitting" * repeats
        words = run(model, text, 1)
        total = length(model, text) + sum(length(model, f" {word}") for word in words)
        assert total <= MAX_TOKENS or not words
        shortest = min(length(model, f" {word}") for word in set(WORDS) - set(words))
        assert total + shortest > MAX_TOKENS, "there was room for another word"


def test_without_room_the_styled_prompt_is_the_final_one(model: Model, device: Device, make_spec: MakeSpec) -> None:
    texts = enhance(make_spec(prompt="a cat under a tree " * 20), model, device)

    assert texts.enhanced_prompt == texts.styled_prompt


def test_enhancement_can_be_switched_off(model: Model, device: Device, make_spec: MakeSpec) -> None:
    texts = enhance(make_spec(enhance=False), model, device)

    assert (texts.prompt, texts.enhanced_prompt) == ("an orange cat", texts.styled_prompt)


def test_the_words_depend_on_prompt_and_seed_alone(model: Model, device: Device, make_spec: MakeSpec) -> None:
    first = [enhance(make_spec(seed=seed), model, device) for seed in SEEDS]
    torch.manual_seed(1)
    global_state = torch.get_rng_state()
    enhance(make_spec(prompt="a red apple", seed=3), model, device)
    again = [enhance(make_spec(seed=seed), model, device) for seed in reversed(SEEDS)]

    assert again == first[::-1]
    assert torch.equal(torch.get_rng_state(), global_state)
    assert len({texts.enhanced_prompt for texts in first}) == len(SEEDS)


@pytest.mark.parametrize("text", ["x", "an orange cat", "cinematic film still of an apple, wide screen"])
def test_the_words_are_those_of_a_written_out_sampler_without_a_cache(model: Model, text: str) -> None:
    assert run(model, text, 5) == reference(model, text, 5)


def test_jobs_of_many_threads_get_the_words_that_each_gets_alone(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    specs = [make_spec(prompt=prompt, seed=seed) for prompt in ("an orange cat", "a red apple") for seed in SEEDS]
    alone = [enhance(spec, model, device) for spec in specs]

    with ThreadPoolExecutor(4) as jobs:
        together = list(jobs.map(lambda spec: enhance(spec, model, device), specs * 2))

    assert together == alone * 2


def test_texts_that_are_continued_together_get_the_words_that_each_gets_alone(model: Model) -> None:
    """A row's words, seed, length or end told to another row."""
    asked = [("an orange cat", 1), ("a cat", 2), ("an orange cat", 3), ("a cat " * 40, 4), (" sitting" * 16, 5)]

    with torch.inference_mode():
        together = choose_words(model, asked)

    assert together == [run(model, *one) for one in asked]
    assert together[3] == ()


def test_the_style_has_its_say_in_the_words(model: Model, device: Device, make_spec: MakeSpec) -> None:
    styles = ("cinematic", "anime", "lineart")
    texts = [enhance(make_spec(style=style, seed=3), model, device) for style in styles]

    assert len({enhancement(one.enhanced_prompt, one.styled_prompt) for one in texts}) == len(styles)


@pytest.mark.parametrize(
    "prompt",
    [
        " ",
        "\n",
        "\0",
        "\u200b",
        "\u202e猫",
        "e" + "\u0301" * 12,
        "😀",
        "\U0010ffff",
        "<|endoftext|>",
        "vivid",
        "%s {x}\\",
    ],
    ids=ascii,
)
def test_any_prompt_is_kept_as_it_is_and_followed_by_whole_words(
    model: Model, device: Device, make_spec: MakeSpec, prompt: str
) -> None:
    texts = enhance(make_spec(prompt=prompt, style="none"), model, device)

    assert texts.prompt == texts.styled_prompt == prompt
    words = enhancement(texts.enhanced_prompt, prompt).replace(",", "").split()
    assert words
    assert set(words) <= set(WORDS)
    assert len(words) == len(set(words))


@pytest.mark.parametrize("character", ["a", "!", " ", "猫", "😀"])
def test_two_thousand_characters_are_no_more_than_the_enhancer_can_read(model: Model, character: str) -> None:
    assert run(model, character * 2000, 1) == ()


def test_an_enhancer_that_reads_fewer_than_fifty_tokens_is_not_asked_for_more(model: Model) -> None:
    enhancer = copy.deepcopy(model.enhancer)
    enhancer.config.n_positions = 24
    places = enhancer.transformer.wpe
    places.weight = torch.nn.Parameter(places.weight[:24], requires_grad=False)  # a 25th would be an IndexError
    short = replace(model, enhancer=enhancer)

    words = run(short, "a cat", 1)

    assert words
    assert length(model, "a cat") + sum(length(model, f" {word}") for word in words) <= 24
    assert run(short, "a cat" * 24, 1) == ()


def test_the_lists_are_about_fifty_words_without_doubles_and_pairs_made_of_them() -> None:
    assert 45 <= len(WORDS) == len(set(WORDS)) <= 60
    paired = [word for pair in PAIRS for word in pair]
    assert len(paired) == len(set(paired))
    assert set(paired) <= set(WORDS)


def enhancement(final: str, styled: str) -> str:
    assert final.startswith(f"{styled}, ")
    return final.removeprefix(f"{styled}, ")


def length(model: Model, text: str) -> int:
    return len(model.enhancer_tokenizer(text).input_ids)


@torch.inference_mode()
def run(model: Model, text: str, seed: int) -> tuple[str, ...]:
    return choose_words(model, [(text, seed)])[0]


@torch.inference_mode()
def reference(model: Model, text: str, seed: int) -> tuple[str, ...]:
    """The whole text goes through GPT-2 for every token; what may follow is found by comparing texts, not tokens."""
    encode, generator = model.enhancer_tokenizer, torch.Generator().manual_seed(seed)
    written: list[int] = encode(text).input_ids
    words: list[str] = []
    word: list[int] = []
    while True:
        open_words = {w: encode(f" {w}").input_ids for w in WORDS if w not in words}
        fits = [t for t in open_words.values() if t[: len(word)] == word and len(written) + len(t) - len(word) <= 50]
        allowed = sorted({tokens[len(word)] for tokens in fits})
        if not allowed:
            return tuple(words)
        logits = model.enhancer(torch.tensor([written])).logits[0, -1, allowed]
        values, places = logits.sort(descending=True)
        drawn = torch.multinomial(values[:TOP_K].softmax(0), 1, generator=generator)
        token = allowed[int(places[drawn])]
        written.append(token)
        word.append(token)
        if (spelled := encode.decode(word).strip()) in open_words:
            words.append(spelled)
            word = []
