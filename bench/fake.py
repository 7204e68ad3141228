"""A stand-in for a GPU: a U-Net that computes next to nothing and takes A + B·n ms, and jobs to paint with it. Pure.

It stands under the real engine, so what is measured is the engine's scheduling and not a model of it.
"""

import random
import time
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from common.jobs.spec import SCHEDULERS, JobSpec, SchedulerName, evaluations
from worker.diffusion.slots import ROWS
from worker.weights import Model

A_MS, B_MS = 3.5, 5.0  # of an H100, roughly: to launch a call, and for each pair of rows in it
SLOTS = 16
CONSTANTS = f"a U-Net call of n pairs takes {A_MS:g} + {B_MS:g}·n ms, {SLOTS} slots"

STEPS, GUIDANCE = (10, 20, 30, 50), (1.0, 5.0, 7.5)  # what the jobs of a mix ask for, all alike often


@dataclass(frozen=True, slots=True)
class Job:
    """One picture's parameters; jobs that are equal could share a plain pipeline's batch."""

    scheduler: SchedulerName
    steps: int
    guidance: float

    @property
    def evaluations(self) -> int:
        return evaluations(self.scheduler, self.steps)

    @property
    def rows(self) -> int:
        return ROWS if self.guidance > 1 else 1

    @property
    def pair_steps(self) -> float:
        return self.evaluations * self.rows / ROWS

    @property
    def seconds_alone(self) -> float:
        """What the device takes for this job by itself, in calls as narrow as they can be."""
        return self.evaluations * call_seconds(self.rows)


def call_seconds(rows: int) -> float:
    return (A_MS + B_MS * rows / ROWS) / 1000


def mix(count: int, seed: int) -> list[Job]:
    """Jobs of any scheduler, step count and guidance."""
    chance = random.Random(seed)  # noqa: S311 - the same jobs for every side
    return [Job(chance.choice(SCHEDULERS), chance.choice(STEPS), chance.choice(GUIDANCE)) for _ in range(count)]


class Unet:
    """Takes its time and counts its rows: ``used`` by pictures, ``offered`` by calls that could all have been full."""

    def __init__(self, slots: int) -> None:
        self.config = SimpleNamespace(in_channels=4, cross_attention_dim=4)
        self.used = self.offered = 0
        self._slots = slots

    def __call__(
        self, sample: torch.Tensor, timesteps: torch.Tensor, *, encoder_hidden_states: torch.Tensor
    ) -> SimpleNamespace:
        ready = time.perf_counter() + call_seconds(len(sample))
        self.used += int(encoder_hidden_states.any(dim=2).any(dim=1).sum())  # rows of padding are all zeros
        self.offered += self._slots * ROWS
        answer = torch.sin(sample) / 2
        time.sleep(max(0.0, ready - time.perf_counter()))
        return SimpleNamespace(sample=answer)


class Tokenizer:
    """Every text is as long as the next."""

    model_max_length = 77

    def __call__(self, texts: list[str] | str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[0] if isinstance(texts, str) else torch.zeros(len(texts), 77))


class Vae:
    """Every picture is small and the same."""

    config = SimpleNamespace(scaling_factor=1.0)

    def decode(self, latents: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=torch.linspace(-1, 1, 192).view(1, 3, 8, 8).expand(len(latents), 3, 8, 8))


def make_model(unet: Unet) -> Model:
    """A model with as many parts as the stage that paints looks at. All but the U-Net takes no time."""
    return Model(
        name="fake",
        unet=unet,
        tokenizer=Tokenizer(),
        text_encoder=lambda ids: SimpleNamespace(last_hidden_state=torch.ones(len(ids), 77, 4)),
        vae=Vae(),
        enhancer=None,
        enhancer_tokenizer=None,
        scorer=None,
        scorer_tokenizer=None,
        scorer_processor=None,
        device=torch.device("cpu"),
        dtype=torch.float32,
        revisions={},
    )


def make_spec(job: Job) -> JobSpec:
    return JobSpec(
        prompt="a red apple",
        negative_prompt="blurry",
        style="none",
        enhance=False,
        model="fake",
        width=64,
        height=64,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        scheduler=job.scheduler,
        seed=0,
        num_images=1,
        keep_best=None,
        output_format="png",
    )
