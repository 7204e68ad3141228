"""The gates' measures on drawn scenes: each says yes to what has what it looks for, and no to what has not."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from demo.measures import (
    Picture,
    edges_on_grid,
    find_thing,
    has_bars,
    like_their_block,
    mean_ssim,
    median_hue,
    nearest_color,
    saturated_share,
    ssim,
)
from demo.shapes import NATIVE
from demo.training.faults import soften, to_tensor
from demo.trials import HUES, demo_trials, drawn_like, held_out_trials
from demo.world.draw import draw
from demo.world.scene import FAVORITES, LOOKS, Scene, sample_scene

EACH = 12  # scenes
APPLE = Scene("apple", "red", "table", "day", "clear", "photographic")


def drawing(scene: Scene) -> Picture:
    return np.asarray(draw(scene, NATIVE))


def pictures(style: str) -> list[Picture]:
    """Scenes by day: at night everything is dark, and nothing differs from a black bar."""
    rng = random.Random(style)
    scenes = [replace(sample_scene(rng, style), light="day") for _ in range(EACH)]
    return [drawing(scene) for scene in scenes if scene.place != "space"]


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Picture]]:
    return {style: pictures(style) for style in LOOKS}


@pytest.mark.parametrize("color", HUES)
def test_the_hue_of_a_drawn_apple_is_nearest_to_its_color(color: str) -> None:
    apples = np.stack([drawing(replace(APPLE, color=color, seed=seed)) for seed in range(EACH)])
    soft = soften(to_tensor(apples), torch.Generator().manual_seed(1)).mul(255).byte().permute(0, 2, 3, 1).numpy()

    for some in (apples, soft):
        named = [nearest_color(median_hue(apple, find_thing(apple)), HUES) for apple in some]
        assert named == [color] * EACH


def test_a_table_without_an_apple_has_no_hue_of_a_thing() -> None:
    empty = drawing(replace(APPLE, thing=None, color=None))

    assert find_thing(empty).mean() < 0.03


@pytest.mark.parametrize(("hue", "name"), [(350, "red"), (359, "red"), (12, "red"), (42, "yellow"), (300, "purple")])
def test_hues_are_compared_around_the_circle(hue: float, name: str) -> None:
    assert nearest_color(hue, HUES) == name


def test_the_median_hue_of_reds_on_both_sides_of_zero_is_red() -> None:
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, :16], half[:, 16:] = (255, 0, 30), (255, 30, 0)

    assert abs((median_hue(half, np.ones((32, 32), bool)) + 180) % 360 - 180) < 10


def test_line_art_alone_has_no_color(drawn: dict[str, list[Picture]]) -> None:
    share = {style: [saturated_share(picture) for picture in pictures] for style, pictures in drawn.items()}

    assert max(share.pop("lineart")) == 0
    assert all(np.median(shares) > 0.2 for shares in share.values())


def test_bars_are_seen_in_the_cinema_and_nowhere_else(drawn: dict[str, list[Picture]]) -> None:
    barred = {style: np.mean([has_bars(picture) for picture in pictures]) for style, pictures in drawn.items()}

    assert barred.pop("cinematic") > 0.9
    assert set(barred.values()) == {0}


def test_a_dark_sky_is_no_bar() -> None:
    rocket = Scene("rocket", "gray", "space", "day", "clear", "photographic")
    night = [drawing(replace(rocket, seed=seed)) for seed in range(8)]

    assert not any(has_bars(picture) for picture in night)


def test_blocks_are_seen_in_pixel_art_and_nowhere_else(drawn: dict[str, list[Picture]]) -> None:
    flat = {style: [like_their_block(picture) for picture in pictures] for style, pictures in drawn.items()}
    edges = {style: [edges_on_grid(picture) for picture in pictures] for style, pictures in drawn.items()}

    assert min(flat["pixelart"]) == 1
    assert min(edges.pop("pixelart")) == pytest.approx(1)
    # The mean, as the gate takes it: the bars of a cinematic picture of an empty wall are all that changes in it.
    assert all(np.mean(shares) < 0.55 for shares in edges.values())
    assert max(flat["comic"]) < 0.8


def test_blocks_that_a_blur_has_melted_are_none(drawn: dict[str, list[Picture]]) -> None:
    """What the first try took for pixel art: soft patches, a little larger than pixels."""
    melted = [
        np.asarray(Image.fromarray(p).resize((32, 32)).resize((NATIVE, NATIVE), Image.Resampling.BICUBIC))
        for p in drawn["pixelart"]
    ]

    assert max(edges_on_grid(picture) for picture in melted) < 0.55


def test_likeness_is_one_for_equal_pictures_and_falls_with_every_difference(drawn: dict[str, list[Picture]]) -> None:
    picture, other = drawn["photographic"][:2]
    noise = np.random.default_rng(0).integers(-20, 20, picture.shape)
    noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)

    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(picture, other) == pytest.approx(ssim(other, picture))
    assert ssim(picture, other) < ssim(picture, noisy) < 1
    assert mean_ssim([picture, picture, noisy]) == pytest.approx((1 + 2 * ssim(picture, noisy)) / 3)


def test_likeness_of_two_gray_pictures_is_the_published_formula() -> None:
    """Without any detail only the means count: (2ab + C1) / (a² + b² + C1)."""
    one, other = (np.full((64, 64, 3), value, np.uint8) for value in (51, 102))

    assert ssim(one, other) == pytest.approx((2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4), abs=1e-6)


def test_scenes_drawn_for_a_prompt_differ_as_much_as_seeds_must() -> None:
    alike = [mean_ssim([drawing(one) for one in drawn_like(scene, 8)]) for scene in FAVORITES]

    assert max(alike) < 0.85  # or else no picture could miss the limit of 0.15 above it


def test_no_rival_says_what_the_right_caption_says() -> None:
    """A right answer counted as a wrong one, or a text that stands there twice."""
    trials = demo_trials() + held_out_trials()

    assert [trial.held_out for trial in trials] == [False] * 16 + [True] * 80
    for trial in trials:
        assert len(set(trial.rivals) - {trial.spec.prompt}) == 9
    apples = [trial for trial in demo_trials() if "apple" in trial.spec.prompt]
    assert not [rival for trial in apples for rival in trial.rivals if "red apple on a wooden table" in rival]
    assert not [rival for trial in demo_trials()[4:8] for rival in trial.rivals if "forest" in rival]
    assert not [rival for trial in demo_trials()[12:] for rival in trial.rivals if "orange cat" in rival]
