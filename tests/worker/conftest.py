"""The demo model, a device thread, small jobs for the stages, and a workshop on a database and a bucket of its own."""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr
from sqlalchemy import Engine

from common.db import make_engine
from common.jobs.claim import Claim
from common.jobs.spec import JobSpec
from common.models import BUILT_IN
from common.objects import Objects
from common.settings import Settings
from tests.processes import changed
from worker.checkpoints import Checkpoints
from worker.diffusion.device import Device
from worker.diffusion.slots import Slot
from worker.hold import Hold
from worker.weights import Model, load_model
from worker.wishes import Wishes
from worker.workshop import Workshop

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


class Listener:
    """Holds a job that no queue knows of, and hears how far it is."""

    def __init__(
        self,
        on_step: Callable[[int], None] = lambda done: None,
        *,
        urgency: tuple[Any, ...] = (0,),
        alone: bool = False,
    ) -> None:
        self.step = on_step
        self.urgency = urgency
        self.alone = alone
        self.slots: list[Slot] = []

    def resume(self, slots: list[Slot], recipe: dict[str, Any]) -> None:
        self.slots = slots

    def look(self) -> None:
        """Nothing is asked of it."""


def hold_claim(engine: Engine, claim: Claim, draining: threading.Event | None = None) -> Hold:
    """The claim in hand, with a bucket that is not to be asked for anything."""
    nowhere = Objects(
        endpoint_url="http://127.0.0.1:9",
        public_url="http://127.0.0.1:9",
        access_key="a",
        secret_key="b",
        bucket="c",
        region="d",
    )
    wishes = Wishes(engine, {claim.token: claim})
    return Hold(engine, claim, wishes, draining or threading.Event(), Checkpoints(nowhere, claim, 1e9), patience=3600)


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


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """On a fresh, migrated database."""
    engine = make_engine(database_url, name="kiln-worker")
    yield engine
    engine.dispose()


@pytest.fixture
def dead_engine() -> Iterator[Engine]:
    """On a port that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and never listens
        engine = make_engine(f"postgresql://kiln@127.0.0.1:{held.getsockname()[1]}/kiln", name="kiln-worker")
        yield engine
        engine.dispose()


@pytest.fixture
def workshop(engine: Engine, database_url: str, module_settings: Settings, model: Model, device: Device) -> Workshop:
    """A worker's workshop with the demo model, on a fresh database and the module's bucket."""
    settings = changed(module_settings, database_url=SecretStr(database_url), serve=["demo"])
    objects = Objects.from_settings(settings)
    objects.ensure_bucket()
    return Workshop(
        id="host:1:ab",
        settings=settings,
        engine=engine,
        objects=objects,
        device=device,
        seats=2,
        batch_seats=threading.Semaphore(1),
        device_name="cpu",
        models={"demo": model},
    )
