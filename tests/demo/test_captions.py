"""The captions that the demo model learns from: their grammar, what they say of a scene, and how they are spelled."""

import random
import re
from dataclasses import replace

import pytest
from transformers import CLIPTokenizer

from common.models import DEMO_WEIGHTS
from common.styles import DEFAULT_NEGATIVE_PROMPT
from demo.captions import (
    COLORS,
    DEMO_PROMPTS,
    THINGS,
    caption,
    empty_prompt,
    held_out_scenes,
    plain_caption,
    prompt,
)
from demo.shapes import POSITIONS
from demo.world.scene import FAVORITES, HELD_OUT, LOOKS, Scene, sample_scene

WRONG_ARTICLE = re.compile(
    r"\ban? an? |\ba (?!uni)[aeiou]|\ban (?![aeiou])|\ban uni|\b(anime|cinematic|surrealistic|bit) an? "
)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = random.Random(11)
    return [sample_scene(rng) for _ in range(4000)]


@pytest.fixture(scope="module")
def prompts(scenes: list[Scene]) -> list[str]:
    rng = random.Random(12)
    return [prompt(scene, rng) for scene in scenes]


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(DEMO_WEIGHTS / "tokenizer", local_files_only=True)


def test_articles_and_spaces_are_right(prompts: list[str]) -> None:
    """A grammar that writes "an unicorn" never teaches "a unicorn"."""
    text = "\n".join(prompts).lower()
    assert not [wrong.group() for wrong in WRONG_ARTICLE.finditer(text)]
    assert not re.findall(r"  | ,|, ?,|[{}]| \.|^ | $", text, flags=re.MULTILINE)
    said = set(re.findall(r"\ban? \w+", text))
    assert {"a unicorn", "a horse", "an orange", "an apple", "an astronaut", "an emerald"} <= said


def test_thing_and_color_are_said_rightly_and_no_other_thing_is(scenes: list[Scene]) -> None:
    """A caption that leaves out, or makes up, what the picture shows: the model would learn to ignore words."""
    rng = random.Random(13)
    for scene in scenes:
        said = caption(scene, rng).lower()
        things = {thing for thing, names in THINGS.items() if any(re.search(rf"\b{name}\b", said) for name in names)}
        expected = {scene.thing} - {None} | ({"astronaut"} if scene.rider else set())
        assert things == expected, said
        if scene.color:
            assert any(f"{color} " in said for color in COLORS[scene.color]), said


@pytest.mark.parametrize(("wanted", "scene"), list(zip(DEMO_PROMPTS, FAVORITES, strict=True)))
def test_training_says_the_prompts_of_the_seed(wanted: str, scene: Scene) -> None:
    """The first prompts that a newcomer tries being sentences that the model never heard."""
    rng = random.Random(14)
    assert scene.combination not in HELD_OUT
    assert sum(caption(scene, rng) == wanted for _ in range(2000)) >= 5


def test_one_scene_has_many_captions(scenes: list[Scene]) -> None:
    rng = random.Random(15)
    counts = [len({caption(scene, rng) for _ in range(60)}) for scene in scenes[:50]]
    assert min(counts) >= 5
    assert sum(counts) / len(counts) >= 20


def test_dark_and_wet_scenes_mostly_say_so() -> None:
    """Night and rain that come unasked, for the captions of training kept silent about them."""
    rng = random.Random(16)
    clear = Scene("house", "red", "mountains", "day", "clear", "photographic")
    night = [caption(replace(clear, light="night"), rng).lower() for _ in range(400)]
    rain = [caption(replace(clear, weather="rain"), rng).lower() for _ in range(400)]
    plain = [caption(clear, rng).lower() for _ in range(400)]

    assert 0.8 < share(r"night|moon", night) < 1
    assert 0.8 < share("rain", rain) < 1
    assert share(r"night|moon|rain|mist|fog|dawn|sunset|dusk", plain) == 0


def test_without_a_style_a_photograph_is_meant() -> None:
    """A prompt of style "none" giving one of eight looks at random."""
    rng = random.Random(17)
    scene = Scene("boat", "green", "beach", "day", "clear", "photographic")
    said = {style: [prompt(replace(scene, style=style), rng).lower() for _ in range(300)] for style in LOOKS}
    styled = r"photo|film|cinema|movie|anime|comic|line art|line drawing|pixel|8 bit|gogh|surreal"
    shares = {style: share(styled, texts) for style, texts in said.items()}

    assert 0.75 < shares.pop("photographic") < 0.9
    assert set(shares.values()) == {1}


def test_no_prompt_is_silence_or_the_default_negative_prompt() -> None:
    """Guidance away from a text that the model never heard."""
    rng = random.Random(18)
    said = [empty_prompt(rng) for _ in range(200)]
    assert set(said) == {"", DEFAULT_NEGATIVE_PROMPT}
    assert 60 < said.count("") < 140


def test_the_held_out_scenes_are_forty_plain_ones_of_all_things_that_training_never_draws(scenes: list[Scene]) -> None:
    chosen = held_out_scenes()
    assert chosen == held_out_scenes()
    assert len(set(chosen)) == 40
    assert {scene.combination for scene in chosen} <= HELD_OUT
    assert {scene.thing for scene in chosen} == set(THINGS)
    assert {(scene.light, scene.weather, scene.style) for scene in chosen} == {("day", "clear", "photographic")}
    assert all(scene.thing and scene.color for scene in chosen)
    assert not {scene.combination for scene in scenes} & HELD_OUT


def test_a_plain_caption_says_all_of_a_combination_without_synonyms() -> None:
    assert plain_caption(Scene("boat", "green", "beach", "day", "clear", "anime")) == "a green boat on a beach"
    assert plain_caption(Scene("unicorn", None, "space", "day", "clear", "anime")) == "a unicorn in space"
    captions = [plain_caption(scene) for scene in held_out_scenes()]
    assert len(set(captions)) == 40
    assert not [wrong for wrong in map(WRONG_ARTICLE.search, captions) if wrong]


def test_nearly_every_prompt_fits_the_text_encoder(prompts: list[str], tokenizer: CLIPTokenizer) -> None:
    """The style, which comes last, cut off; or words spelled letter by letter, for the vocabulary lacks them."""
    lengths = [len(tokens) for tokens in tokenizer(prompts).input_ids]
    assert sum(length <= POSITIONS for length in lengths) >= 0.98 * len(lengths)
    for text in (*DEMO_PROMPTS, DEFAULT_NEGATIVE_PROMPT, *prompts[:500]):
        words = re.findall(r"\w+|[^\w\s]+", text)
        assert len(tokenizer.tokenize(text)) <= len(words) + 8, text


@pytest.mark.parametrize(
    "text", ["zxqvy", "猫", "😀", "ünïcode", "\U0010ffff", "12:30 o'clock", "<|endoftext", "{x}\\"]
)
def test_an_unseen_word_is_spelled_and_comes_back(tokenizer: CLIPTokenizer, text: str) -> None:
    """A word outside the small vocabulary read as "end of text", or as nothing."""
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    assert tokens
    assert tokenizer.unk_token_id not in tokens
    assert tokenizer.decode(tokens).replace(" ", "") == text.replace(" ", "")


def test_the_vocabulary_is_small_and_holds_every_byte_twice(tokenizer: CLIPTokenizer) -> None:
    assert 1000 <= len(tokenizer) <= 2000
    single = [token.removesuffix("</w>") for token in tokenizer.get_vocab()]
    assert sum(len(token) == 1 for token in single) == 512


def test_text_encoder_and_scorer_read_the_same_tokens(prompts: list[str], tokenizer: CLIPTokenizer) -> None:
    scorers = CLIPTokenizer.from_pretrained(DEMO_WEIGHTS / "scorer", local_files_only=True)
    assert scorers(prompts[:200]).input_ids == tokenizer(prompts[:200]).input_ids


def share(pattern: str, texts: list[str]) -> float:
    return sum(bool(re.search(pattern, text)) for text in texts) / len(texts)
