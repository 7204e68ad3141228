"""What one worker process has: settings in; connections, device thread and loaded models out, made once at start."""

import itertools
import os
import secrets
import socket
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import torch
from sqlalchemy import Engine

from common.db import make_engine
from common.jobs.claim import Claim, claim_job
from common.jobs.state import Lane
from common.objects import Objects
from common.settings import Settings
from worker.breaker import Breaker
from worker.checkpoints import Checkpoints
from worker.compile import compile_unet
from worker.diffusion.device import Device
from worker.diffusion.faults import probe
from worker.diffusion.slots import Width
from worker.hardware import pick_device, pick_dtype, share_cores
from worker.herald import Herald, News
from worker.hold import Hold
from worker.preview import Previews
from worker.weights import Model, load_model
from worker.wishes import Wishes

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
    seats: int
    batch_seats: threading.Semaphore  # those that are free
    models: dict[str, Model] = field(default_factory=dict)
    draining: threading.Event = field(default_factory=threading.Event)
    holds: dict[Hold, None] = field(default_factory=dict)
    in_hand: dict[UUID, Claim] = field(default_factory=dict)  # by token
    breaker: Breaker = field(default_factory=Breaker)
    herald: Herald | None = None
    previews: Previews = field(init=False)
    wishes: Wishes = field(init=False)
    _claiming: threading.Lock = field(default_factory=threading.Lock)
    _served: dict[str, float] = field(default_factory=dict)  # when a job of each model was claimed last
    _claims: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.previews = Previews(self.device)
        self.wishes = Wishes(self.engine, self.in_hand)

    def claim(self) -> Claim | None:
        """The next job for this worker; None where there is none, the worker is stopping, or there is an obstacle.

        A job that failed before may be what kills its worker. One such suspect at a time runs beside the others: where
        the worker dies with it, it is known who is to be charged.
        """
        with self._claiming:  # or two seats would take a suspect each
            if self.draining.is_set() or self.store_full or not self.device.is_alive():
                return None
            claim = self._claim() if self.breaker.allows() else None
            if claim:
                self.in_hand[claim.token] = claim
            return claim

    def _claim(self) -> Claim | None:
        batch = self.batch_seats.acquire(blocking=False)
        lanes = tuple(Lane) if batch else (Lane.INTERACTIVE,)
        oldest = next(self._claims) % OLDEST_EVERY == 0
        claim = None
        try:
            if avoid := self.breaker.avoid:
                claim = self._claim_from(lanes, oldest, avoid)
            if claim is None and self.breaker.waited:
                claim = self._claim_from(lanes, oldest, ())
        finally:
            if batch and not (claim and claim.lane is Lane.BATCH):
                self.batch_seats.release()
            if claim is None:
                self.breaker.unused()
        return claim

    def _claim_from(self, lanes: Sequence[Lane], oldest: bool, avoid: Collection[str]) -> Claim | None:
        claim = claim_job(
            self.engine,
            worker=self.id,
            models=sorted(self.models, key=lambda name: self._served.get(name, 0)),
            lanes=lanes,
            lease_seconds=self.settings.lease_seconds,
            # the hold gives it back by then; a lease later it is clear that this worker does not
            job_seconds=self.settings.job_seconds + self.settings.lease_seconds,
            oldest=oldest,
            suspects=not any(claim.failures for claim in self.in_hand.values()),
            avoid=avoid,
        )
        if claim:
            self._served[claim.spec.model] = time.monotonic()
        return claim

    @property
    def store_full(self) -> str:
        """Why nothing more is to be painted; "" while less than half of the seats wait for the object store.

        Their pictures are all that waits for it, in memory: seats bound them.
        """
        waiting = sum(hold.waits_for_store for hold in list(self.holds))
        if 2 * waiting < self.seats:
            return ""
        return f"the object store takes nothing: {waiting} of {self.seats} seats wait for it with their pictures"

    @property
    def obstacle(self) -> str:
        """Why no job is claimed; "" where nothing is in the way. For people of all owners: it names no job."""
        return self.breaker.reason or self.store_full

    def abandon(self) -> None:
        """Claim nothing more, and wait until no job is in hand."""
        self.draining.set()
        with self._claiming:
            pass  # a claim that is under way would be in nobody's hand
        while self.in_hand:
            time.sleep(0.05)

    @contextmanager
    def hold(self, claim: Claim) -> Iterator[Hold]:
        """Keep the claim's lease alive during the block."""
        checkpoints = Checkpoints(self.objects, claim, self.settings.checkpoint_seconds)
        news = News(self.herald, self.previews, claim) if self.herald else None
        held = Hold(self.engine, claim, self.wishes, self.draining, checkpoints, self.settings.job_seconds, news)
        self.holds[held] = None
        try:
            yield held
        finally:
            del self.holds[held]
            self.in_hand.pop(claim.token, None)
            if news:
                news.settled()
            if claim.lane is Lane.BATCH:
                self.batch_seats.release()


def open_workshop(settings: Settings) -> Workshop:
    """Connections and a device thread; no models yet."""
    device = pick_device(settings.device)
    width = pick_width(settings)
    seats = settings.seats or width.slots + max(2, width.slots // 2)
    batch_seats = max(1, seats - 1) if settings.batch_seats is None else min(settings.batch_seats, seats)
    holds: dict[Hold, None] = {}
    return Workshop(
        id=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}",
        settings=settings,
        engine=make_engine(settings.database_url.get_secret_value(), name="kiln-worker", pool_size=seats // 2 + 2),
        objects=Objects.from_settings(settings),
        device=Device(width, has_jobs=lambda: bool(holds), probe=partial(probe, device)),
        device_name=str(device),
        seats=seats,
        batch_seats=threading.Semaphore(batch_seats),
        holds=holds,
        herald=Herald(settings.broker_url.get_secret_value()),
    )


def load_models(workshop: Workshop) -> None:
    """Load every model that the settings serve. Raises ModelNotLoadable for the first that cannot be.

    All on the device thread. CUDA graphs can only be replayed by the thread that recorded them. And on a CPU OpenMP
    gives each thread that computes in parallel a team of its own; as soon as there are more of them than cores, teams
    sleep at every barrier instead of spinning, which halves the speed (GCC's libgomp, "throttled spin count").
    """
    settings = workshop.settings
    device = pick_device(settings.device)
    workshop.device.run(partial(share_cores, settings.workers))
    for name in settings.served:
        workshop.models[name] = workshop.device.run(partial(_load, name, settings, device, workshop.device.width))
    torch.set_num_threads(1)  # of threads other than the device's, which has its own number by now


def _load(name: str, settings: Settings, device: torch.device, width: Width) -> Model:
    entry, dtype = settings.registry[name], pick_dtype(settings.dtype, device)
    with torch.inference_mode(False):  # weights that torch.compile takes
        model = load_model(name, entry, home=settings.home, device=device, dtype=dtype)
    return compile_unet(model, width, (entry.width, entry.height)) if settings.compile else model


def pick_width(settings: Settings) -> Width:
    """How many pictures share a U-Net call: KILN_SLOTS, else 8 on CUDA and 1 elsewhere, where more gains nothing."""
    slots = settings.slots or (8 if pick_device(settings.device).type == "cuda" else 1)
    return Width(slots, exact=settings.engine_mode == "exact" or (settings.engine_mode is None and slots == 1))
