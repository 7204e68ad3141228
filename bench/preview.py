"""What previews cost: the time of making them against that of the evaluations between them, at a worker's own pace."""

import time
from pathlib import Path
from typing import Any

import torch

from bench.painters import TEXTS
from bench.result import Result, at_most, ratios, told
from bench.throughput import make_spec
from common.jobs.spec import JobSpec
from common.models import BUILT_IN
from worker.diffusion.device import Device
from worker.diffusion.slots import Slot
from worker.hold import SAVE_SECONDS
from worker.preview import Previews
from worker.stages.diffuse import diffuse
from worker.weights import Model, load_model

PERCENT = 100.0


def measure(home: Path, quick: bool) -> list[Result]:
    rounds = 1 if quick else 5
    model = load_model("demo", BUILT_IN["demo"], home=home, device=torch.device("cpu"), dtype=torch.float32)
    device = Device()
    try:
        previews, spec = Previews(device), make_spec(1, enhance=False)
        first = _paint(spec, model, device, previews).shown[0]
        turns = [(_paint(spec, model, device, previews), _paint(spec, model, device, None)) for _ in range(rounds)]
    finally:
        device.close()
        device._thread.join()  # torch aborts a program that ends while a thread is in its code
    shares = [PERCENT * sum(watched.shown) / watched.seconds for watched, _ in turns]
    each = [1000 * seconds for watched, _ in turns for seconds in watched.shown]
    with_them, without = ([pair[place].seconds for pair in turns] for place in (0, 1))
    what = f"a job of {spec.evaluations} evaluations, {spec.width} x {spec.height}, a preview each {SAVE_SECONDS:g} s"
    return [
        at_most(f"{what}: time of making previews ÷ of evaluations", shares, 2, " %"),
        told("the job's time with previews ÷ without", ratios(with_them, without)),
        told("a preview", each, " ms"),
        told("a worker's first, which fits the map to the VAE", [first], " s"),
    ]


class _Watched:
    """Holds a job and looks at its picture as often as a worker that is watched."""

    urgency: tuple[Any, ...] = (0,)
    alone = False

    def __init__(self, previews: Previews | None) -> None:
        self.shown: list[float] = []  # seconds that each preview took
        self.seconds = 0.0
        self._previews = previews
        self._slots: list[Slot] = []
        self._latest = 0.0

    def resume(self, slots: list[Slot], recipe: dict[str, Any]) -> None:
        self._slots = slots

    def step(self, done: int) -> None:
        began = time.perf_counter()
        if self._previews and not self._slots[0].done and began - self._latest >= SAVE_SECONDS:
            self._previews.show(self._slots[0])
            self._latest = time.perf_counter()
            self.shown.append(self._latest - began)

    def look(self) -> None:
        """Nobody cancels it."""


def _paint(spec: JobSpec, model: Model, device: Device, previews: Previews | None) -> _Watched:
    watched, before = _Watched(previews), device.figures.tick_seconds
    diffuse(spec, TEXTS, model, device, watched)
    watched.seconds = device.figures.tick_seconds - before
    return watched
