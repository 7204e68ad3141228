"""The plain diffusers loop: says "ready", then for each line on stdin paints its pictures and says how long it took.

``python -m bench.plain FOLDER PICTURES``: a line of 0 is the pipeline alone, a line of 1 enhances and scores too.
"""

import sys
import time
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from common.models import BUILT_IN
from common.styles import DEFAULT_NEGATIVE_PROMPT, DEFAULT_STYLE, apply_style
from common.telemetry import configure_logging
from worker.diffusion.schedules import make_scheduler
from worker.stages.enhance import choose_words
from worker.stages.score import clip_scores
from worker.weights import load_model

PROMPT = "a red apple on a wooden table"


def main() -> None:
    configure_logging("warning", "console")  # stdout is for the answers
    folder, pictures = Path(sys.argv[1]), int(sys.argv[2])
    entry = BUILT_IN["demo"]
    model = load_model("demo", entry, home=folder, device=torch.device("cpu"), dtype=torch.float32)
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

    def paint(seed: int, everything: bool) -> None:
        prompt = apply_style(PROMPT, DEFAULT_STYLE)
        if everything:
            with torch.inference_mode():
                prompt = ", ".join([prompt, *choose_words(model, [(prompt, seed)])[0]])
        image = pipeline(
            prompt,
            negative_prompt=DEFAULT_NEGATIVE_PROMPT,
            width=entry.width,
            height=entry.height,
            num_inference_steps=entry.num_inference_steps,
            guidance_scale=entry.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        if everything:
            with torch.inference_mode():
                clip_scores((image,), (PROMPT, prompt), model)
        image.save(folder / "plain.png")

    paint(0, everything=True)
    print("ready", flush=True)  # noqa: T201 - this process speaks through its pipe
    for line in sys.stdin:
        began = time.perf_counter()
        for seed in range(pictures):
            paint(seed, everything=line.strip() == "1")
        print(time.perf_counter() - began, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
