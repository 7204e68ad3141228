"""Stage 3, score: pictures and texts in; how well each picture fits the user's words, and which are kept, out."""

from functools import partial

import torch
from PIL import Image

from common.jobs.spec import JobSpec
from worker.diffusion.device import Device
from worker.ticket import Enhanced, Rendered, Scored
from worker.weights import Model


def score(spec: JobSpec, texts: Enhanced, rendered: Rendered, model: Model, device: Device) -> Scored:
    """Score every picture against the user's own prompt (the score that is shown) and against the final prompt."""
    own, final = device.run(partial(clip_scores, rendered.images, (texts.prompt, texts.enhanced_prompt), model))
    return Scored(clip_scores=own, final_scores=final, kept=choose_best(own, spec.keep_best))


def clip_scores(images: tuple[Image.Image, ...], texts: tuple[str, ...], model: Model) -> list[tuple[float, ...]]:
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
