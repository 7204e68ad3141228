"""Jobs in, their pictures out: the worker's own stages, many jobs at a time. Touches the model's device."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.jobs.spec import JobSpec
from worker.diffusion.device import Device
from worker.diffusion.slots import Slot, Width
from worker.stages.diffuse import diffuse
from worker.stages.enhance import enhance
from worker.weights import Model

Pictures = NDArray[np.uint8]  # (n, height, width, 3)
WIDE = Width(16, exact=False)  # of a device that paints many pictures for nobody in particular


class Nobody:
    """Holds a job that no queue knows of."""

    urgency: tuple[Any, ...] = (0,)  # one lane for all
    alone = False

    def resume(self, slots: list[Slot], recipe: dict[str, Any]) -> None:
        """There is no earlier attempt."""

    def step(self, done: int) -> None:
        """Nobody asks how far it is."""

    def look(self) -> None:
        """Nobody cancels it."""


def paint(
    specs: Sequence[JobSpec], model: Model, device: Device, on_picture: Callable[[], None] = lambda: None
) -> Pictures:
    """The first picture of each job; all are of one size. ``on_picture`` hears of each.

    On a device as WIDE as this they are, up to the rounding of sums, the pictures that a worker paints.
    """

    def work(spec: JobSpec) -> NDArray[np.uint8]:
        picture = diffuse(spec, enhance(spec, model, device), model, device, Nobody()).images[0]
        on_picture()
        return np.asarray(picture)

    with ThreadPoolExecutor(2 * WIDE.slots) as jobs:
        return np.stack(list(jobs.map(work, specs)))
