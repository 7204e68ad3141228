"""What one worker process has: settings in; connections, device thread and loaded models out, made once at start."""

import itertools
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Engine

from common.db import make_engine
from common.jobs.claim import Claim, claim_job
from common.objects import Objects
from common.settings import Settings
from worker.diffusion.device import Device, pick_device, pick_dtype
from worker.hold import Hold
from worker.weights import Model, load_model

OLDEST_EVERY = 5  # every fifth claim takes the oldest job, so that none starves


@dataclass(slots=True)
class Workshop:
    """One worker process: its name, its tools, and the jobs it has in hand."""

    id: str
    settings: Settings
    engine: Engine
    objects: Objects
    device: Device
    device_name: str
    models: dict[str, Model] = field(default_factory=dict)
    draining: threading.Event = field(default_factory=threading.Event)
    holds: dict[Hold, None] = field(default_factory=dict)
    evaluations: int = 0
    _claims: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def claim(self) -> Claim | None:
        """The next job for this worker, or None where there is none or the worker is stopping."""
        if self.draining.is_set():
            return None
        return claim_job(
            self.engine,
            worker=self.id,
            models=list(self.models),
            lease_seconds=self.settings.lease_seconds,
            job_seconds=self.settings.job_seconds,
            oldest=next(self._claims) % OLDEST_EVERY == 0,
        )

    @contextmanager
    def hold(self, claim: Claim) -> Iterator[Hold]:
        """Keep the claim's lease alive during the block."""
        held = Hold(self.engine, claim, self.draining)
        self.holds[held] = None
        try:
            yield held
        finally:
            del self.holds[held]
            self.evaluations += held.done


def open_workshop(settings: Settings) -> Workshop:
    """Connections and a device thread; no models yet."""
    return Workshop(
        id=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}",
        settings=settings,
        engine=make_engine(settings.database_url.get_secret_value(), name="kiln-worker", pool_size=settings.seats + 1),
        objects=Objects.from_settings(settings),
        device=Device(),
        device_name=str(pick_device(settings.device)),
    )


def load_models(workshop: Workshop) -> None:
    """Load every model that the settings serve. Raises ModelNotLoadable for the first that cannot be."""
    settings = workshop.settings
    device = pick_device(settings.device)
    for name in settings.served:
        workshop.models[name] = load_model(
            name,
            settings.registry[name],
            home=settings.home,
            device=device,
            dtype=pick_dtype(settings.dtype, device),
        )
