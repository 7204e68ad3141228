"""The shipped enhancer's taste: which words it adds depends on what is asked for, and pairs come together."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest
import torch

from common.models import BUILT_IN
from common.styles import STYLES, apply_style
from demo.training.enhancer import SUITS
from worker.stages.enhance import choose_words
from worker.stages.words import PAIRS, WORDS
from worker.weights import load_model

FIRST = 8  # words of an enhancement: of the last ones only those are left that nobody wanted
SEEDS = 8
LIGHTS = {
    "dawn": "at dawn",
    "sunset": "at sunset",
    "night": "at night",
    "mist": "in the mist",
    "rain": "in the rain",
}
STYLES_OF_TASTE = [reason for reason in SUITS if reason not in LIGHTS]
THINGS = ("a red apple", "a white boat", "an orange cat", "a green house", "a blue bird")
Ask = Callable[[str], list[tuple[str, ...]]]


@pytest.fixture(scope="module")
def ask() -> Ask:
    """The enhancements of a text, one for each of SEEDS."""
    model = load_model("demo", BUILT_IN["demo"], home=Path(), device=torch.device("cpu"), dtype=torch.float32)

    @cache
    @torch.inference_mode()
    def answer(text: str) -> list[tuple[str, ...]]:
        return choose_words(model, [(text, seed) for seed in range(SEEDS)])

    return answer


@pytest.mark.parametrize("style", STYLES_OF_TASTE)
def test_words_that_suit_a_style_come_with_it(ask: Ask, style: str) -> None:
    """Words drawn without a look at the prompt: then one list would do in place of a model."""
    elsewhere = [suiting(ask, style, other, "") for other in STYLES_OF_TASTE if other != style]
    assert suiting(ask, style, style, "") > 2 * mean(elsewhere)


@pytest.mark.parametrize("reason", LIGHTS)
def test_words_that_suit_an_hour_or_a_weather_come_with_it(ask: Ask, reason: str) -> None:
    """A golden hour at midnight."""
    elsewhere = [suiting(ask, reason, "pixelart", said) for other, said in LIGHTS.items() if other != reason]
    assert suiting(ask, reason, "pixelart", LIGHTS[reason]) > 1.5 * mean(elsewhere)


def test_pairs_come_together(ask: Ask) -> None:
    """ "highly" left alone in the middle of a list: highly what?"""
    partners = {pair for one, two in PAIRS for pair in ((one, two), (two, one))}
    paired = {word for pair in PAIRS for word in pair}
    together = begun = 0
    for style in STYLES:
        for words in ask(apply_style(THINGS[0], style)):
            chosen = words[: FIRST + 1]
            together += sum(pair in partners for pair in pairwise(chosen))
            begun += sum(word in paired for word in chosen)
    assert begun > 100
    assert 2 * together / begun > 0.6


def test_seeds_give_different_words_and_none_is_left_out_for_ever(ask: Ask) -> None:
    answers = [words for style in STYLES for thing in THINGS for words in ask(apply_style(thing, style))]
    assert {word for words in answers for word in words} == set(WORDS)
    for style in STYLES:
        firsts = [words[:FIRST] for words in ask(apply_style(THINGS[0], style))]
        assert len(set(firsts)) == SEEDS


def test_a_usual_prompt_leaves_room_for_words(ask: Ask) -> None:
    """A vocabulary that spells our own style templates: 50 tokens would be full before the first word."""
    for style in STYLES:
        for thing in THINGS:
            assert all(len(words) >= 12 for words in ask(apply_style(f"{thing} on a wooden table", style)))


def suiting(ask: Ask, reason: str, style: str, light: str) -> float:
    """How many of the first words of an enhancement suit ``reason``, on average, in a style and a light."""
    answers = [words for thing in THINGS for words in ask(apply_style(f"{thing} {light}".strip(), style))]
    return mean(len(set(words[:FIRST]) & set(SUITS[reason])) for words in answers)
