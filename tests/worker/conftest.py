"""The demo model, a device thread, and small jobs for the stages."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.jobs.spec import JobSpec
from common.models import BUILT_IN
from worker.diffusion.device import Device
from worker.weights import Model, load_model

MakeSpec = Callable[..., JobSpec]

_SMALL = JobSpec(
    prompt="an orange cat",
    negative_prompt="blurry, grainy",
    style="cinematic",
    enhance=True,
    model="demo",
    width=64,
    height=96,
    num_inference_steps=3,
    guidance_scale=7.5,
    scheduler="dpm_solver_multistep",
    seed=32,
    num_images=1,
    keep_best=None,
    output_format="png",
)


@pytest.fixture(scope="session")
def model() -> Model:
    """The demo weights on the CPU. Nothing may change them."""
    return load_model("demo", BUILT_IN["demo"], home=Path(), device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="session")
def device() -> Iterator[Device]:
    thread = Device()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def make_spec() -> MakeSpec:
    """A job of 64 x 96 pixels and three steps, but for what is given."""
    return lambda **changes: replace(_SMALL, **changes)
