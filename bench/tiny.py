"""A mixed backlog of 64 x 64 pixels through the whole of Kiln with eight slots, on a U-Net so small that launching it
is what takes time; against the plain loop and a Celery task per job."""

import json
from dataclasses import replace
from pathlib import Path

from bench.fake import mix
from bench.race import race
from bench.result import Result, at_least, ratios
from bench.shapes import TINY_UNET, make_unet
from bench.throughput import make_spec, tell_speeds
from bench.variables import variables
from common.jobs.spec import JobSpec
from common.models import BUILT_IN, DEMO_WEIGHTS, ModelPart

JOBS, SIDE, SLOTS = 64, 64, 8


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, jobs = (1, 8) if quick else (3, JOBS)
    with variables(
        KILN_MODELS=json.dumps({"tiny": _write_model(home)}), KILN_SLOTS=str(SLOTS), KILN_ENGINE_MODE="fast"
    ):
        [speeds] = race(home, "tiny", [_mixed(jobs)], rounds)
    what = (
        f"pictures/s, whole system, {jobs} mixed jobs of {SIDE} x {SIDE}, a very small U-Net, {SLOTS} slots, fast mode"
    )
    return [
        at_least(f"{what} ÷ plain diffusers loop", ratios(speeds.kiln, speeds.plain), 2),
        at_least("the same ÷ a Celery task per job", ratios(speeds.kiln, speeds.naive), 2),
        *tell_speeds(speeds),
    ]


def _mixed(count: int) -> list[JobSpec]:
    return [
        replace(
            make_spec(seed, enhance=False),
            model="tiny",
            width=SIDE,
            height=SIDE,
            scheduler=job.scheduler,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance,
        )
        for seed, job in enumerate(mix(count, seed=7))
    ]


def _write_model(home: Path) -> dict[str, object]:
    """The demo model with another U-Net, whose weights are random; its entry in the registry."""
    text = json.loads((DEMO_WEIGHTS / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    folder = home / "tiny" / "unet"
    make_unet(TINY_UNET | {"cross_attention_dim": text["hidden_size"]}).save_pretrained(folder)
    entry = BUILT_IN["demo"].model_copy(update={"unet": ModelPart(source=str(folder)), "width": SIDE, "height": SIDE})
    return entry.model_dump()
