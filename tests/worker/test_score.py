"""The scorer: its formula against one written out by hand, which text counts, and which pictures are kept."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from demo.world.draw import draw
from demo.world.scene import FAVORITES
from tests.worker.conftest import MakeSpec
from worker.diffusion.device import Device
from worker.stages.score import choose_best, score
from worker.ticket import Enhanced, Rendered
from worker.weights import Model

TEXTS = Enhanced("an orange cat", "painting of an orange cat", "painting of an orange cat, vivid, bold, sharp focus")


def test_scores_are_those_of_the_published_formula_for_both_texts(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    images = noise((128, 96)), noise((64, 64)), Image.new("RGB", (200, 64), (250, 120, 0))

    scored = score(make_spec(), TEXTS, rendered(*images), model, device)

    assert scored.clip_scores == pytest.approx([reference(model, image, TEXTS.prompt) for image in images], abs=1e-3)
    final = [reference(model, image, TEXTS.enhanced_prompt) for image in images]
    assert scored.final_scores == pytest.approx(final, abs=1e-3)
    assert max(abs(np.subtract(scored.clip_scores, scored.final_scores))) > 0.01
    assert len(set(scored.clip_scores)) == 3


def test_an_image_that_points_away_from_its_text_scores_nothing(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    turned = copy.deepcopy(model.scorer)
    turned.visual_projection.weight.neg_()
    image = rendered(noise((64, 64)))

    straight, away = (
        score(make_spec(), TEXTS, image, one, device).clip_scores[0] for one in (model, replace(model, scorer=turned))
    )

    assert min(straight, away) == 0
    assert max(straight, away) > 0.1


def test_a_text_over_77_tokens_counts_as_far_as_the_scorer_reads(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    read = "an orange cat " * 40
    long, other = read + "on a red apple", read + "under a green tree"
    (cat,) = (scene for scene in FAVORITES if scene.thing == "cat")
    image = draw(cat, 64)

    one, two = (score(make_spec(), Enhanced("x", text, text), rendered(image), model, device) for text in (long, other))

    assert len(model.scorer_tokenizer(read).input_ids) > 77
    assert one.final_scores == two.final_scores == pytest.approx([reference(model, image, long)], abs=1e-3)
    assert one.clip_scores == pytest.approx([reference(model, image, "x")], abs=1e-3)
    assert one.final_scores[0] > 0


def test_keep_best_keeps_the_best_against_the_users_own_prompt(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    images = rendered(*(noise((64, 64), seed) for seed in range(4)))

    everything = score(make_spec(), TEXTS, images, model, device)
    best = score(make_spec(keep_best=1), TEXTS, images, model, device)

    assert everything.kept == (0, 1, 2, 3)
    assert best.clip_scores == everything.clip_scores
    assert best.kept == (int(np.argmax(best.clip_scores)),)


@pytest.mark.parametrize(
    ("scores", "keep", "kept"),
    [
        ((1.0, 3.0, 2.0), 2, (1, 2)),
        ((3.0, 1.0, 2.0), 2, (0, 2)),
        ((2.0, 2.0, 2.0), 2, (0, 1)),
        ((1.0, 2.0), None, (0, 1)),
        ((1.0, 2.0), 5, (0, 1)),
    ],
)
def test_the_best_are_named_in_order_and_ties_go_to_the_earlier(
    scores: tuple[float, ...], keep: int | None, kept: tuple[int, ...]
) -> None:
    assert choose_best(scores, keep) == kept


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def rendered(*images: Image.Image) -> Rendered:
    return Rendered(images=images, seeds=tuple(range(len(images))), recipe={}, tiled=(False,) * len(images))


@torch.inference_mode()
def reference(model: Model, image: Image.Image, text: str) -> float:
    """100 * max(cos, 0), one picture and one text at a time: resized, cropped and normalized by hand."""
    side = model.scorer.config.vision_config.image_size
    shorter = min(image.size)
    resized = image.resize(
        (int(side * image.width / shorter), int(side * image.height / shorter)), Image.Resampling.BICUBIC
    )
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    pixels = np.asarray(resized.crop((left, top, left + side, top + side)), np.float32) / 255
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training
    values = torch.from_numpy(((pixels - mean) / deviation).astype(np.float32)).permute(2, 0, 1)[None]
    seen = model.scorer.visual_projection(model.scorer.vision_model(values).pooler_output)[0]
    tokens = model.scorer_tokenizer(text).input_ids
    ids = torch.tensor([tokens[:76] + tokens[-1:] if len(tokens) > 77 else tokens])  # the end stays
    read = model.scorer.text_projection(model.scorer.text_model(ids).pooler_output)[0]
    cosine = float(seen @ read / (seen.norm() * read.norm()))
    return 100 * max(cosine, 0.0)
