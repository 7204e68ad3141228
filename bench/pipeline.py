"""A model in, diffusers' own pipeline over it out, and jobs' pictures by it: what Kiln is compared with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from common.jobs.spec import JobSpec
from common.settings import ModelSettings, read_settings
from common.styles import apply_style
from worker.diffusion.schedules import make_scheduler
from worker.stages.enhance import choose_words
from worker.stages.score import clip_scores
from worker.weights import Model, load_model


def open_studio(name: str, home: Path) -> Callable[[JobSpec], Image.Image]:
    """Load a model and its pipeline on the CPU. What comes back paints a job; one that asks for enhancement is
    enhanced and scored too."""
    entry = read_settings(ModelSettings).registry[name]
    model = load_model(name, entry, home=home, device=torch.device("cpu"), dtype=torch.float32)
    pipeline = make_pipeline(model)

    def picture(spec: JobSpec) -> Image.Image:
        prompt = apply_style(spec.prompt, spec.style)
        with torch.inference_mode():
            words = choose_words(model, [(prompt, spec.seed)])[0] if spec.enhance else ()
            prompt = ", ".join([prompt, *words])
            image = paint(pipeline, spec, prompt)
            if spec.enhance:
                clip_scores((image,), (spec.prompt, prompt), model)
        return image

    return picture


def make_pipeline(model: Model) -> Any:
    pipeline = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=make_scheduler("dpm_solver_multistep"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint(pipeline: Any, spec: JobSpec, prompt: str) -> Image.Image:
    """The picture of one job; ``prompt`` is its final text."""
    pipeline.scheduler = make_scheduler(spec.scheduler)
    image: Image.Image = pipeline(
        prompt,
        negative_prompt=spec.negative_prompt,
        width=spec.width,
        height=spec.height,
        num_inference_steps=spec.num_inference_steps,
        guidance_scale=spec.guidance_scale,
        generator=torch.Generator().manual_seed(spec.seed),
    ).images[0]
    return image
