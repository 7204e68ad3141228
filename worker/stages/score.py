"""Stage 3, score: pictures and texts in; how well each picture fits the user's words, and which are kept, out."""

from collections.abc import Sequence
from functools import partial

import torch
from PIL import Image

from common.jobs.spec import JobSpec
from worker.diffusion.device import Device
from worker.ticket import Enhanced, Rendered, Scored
from worker.weights import Model, Scorer

Images = tuple[Image.Image, ...]
Texts = tuple[str, ...]


def score(spec: JobSpec, texts: Enhanced, rendered: Rendered, model: Model, device: Device) -> Scored:
    """Score every picture against the user's own prompt (the score that is shown) and against the final prompt."""
    item = (rendered.images, (texts.prompt, texts.enhanced_prompt))
    own, final = device.share(partial(score_together, model), ("score", model.name), item)
    return Scored(clip_scores=own, final_scores=final, kept=choose_best(own, spec.keep_best))


def score_together(model: Model, jobs: Sequence[tuple[Images, Texts]]) -> list[list[tuple[float, ...]]]:
    """For each job's pictures and texts, what ``clip_scores`` gives; all of them in one call of the scorer."""
    images = tuple(image for some, _ in jobs for image in some)
    texts = tuple(text for _, some in jobs for text in some)
    rows, scores, first = iter(clip_scores(images, texts, model)), [], 0
    for some, said in jobs:
        scores.append([next(rows)[first : first + len(some)] for _ in said])
        first += len(some)
    return scores


def clip_scores(images: Images, texts: Texts, model: Model | Scorer) -> list[tuple[float, ...]]:
    """For each text, one score per picture: 100 * max(cos(image, text), 0) (CLIPScore; Hessel et al., 2021)."""
    words = model.scorer_tokenizer(
        list(texts),
        padding=True,
        truncation=True,
        max_length=model.scorer.config.text_config.max_position_embeddings,
        return_tensors="pt",
    ).to(model.device)
    pixels = model.scorer_processor(images=list(images), return_tensors="pt").pixel_values
    output = model.scorer(**words, pixel_values=pixels.to(model.device, model.dtype))
    cosines = torch.nn.functional.cosine_similarity(
        output.text_embeds.float()[:, None], output.image_embeds.float()[None], dim=-1
    )
    return [tuple(row) for row in (100 * cosines.clamp(min=0)).tolist()]


def choose_best(scores: tuple[float, ...], keep: int | None) -> tuple[int, ...]:
    """The indices of the ``keep`` best scores, in index order; all where ``keep`` is None. Ties: the lower index."""
    ranked = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return tuple(sorted(ranked[:keep]))
