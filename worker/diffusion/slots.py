"""The idea of the engine: a picture is a slot, and one U-Net call takes a step of whichever slots are most urgent.

A slot keeps its own schedule, latents, guidance and count of steps. So pictures of any scheduler, step count and
guidance share a call, with a timestep for each row, and any of them comes or goes between two calls. Everything but
the U-Net is elementwise, row by row: what a slot becomes does not depend on the company, as long as the U-Net's rows
do not. They do not where the number of rows is always the same: that is the exact mode.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import accumulate
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch.nn.functional import pad

from worker.diffusion.schedules import OUTPUTS, SAMPLES, Course
from worker.weights import Model

LATENT_FACTOR = 8  # pixels of a side per latent
Shape = tuple[int, ...]  # of latents: channels, height / 8, width / 8
LOOK_SECONDS = 1.0  # a job whose pictures wait for their turn hears as soon that it is to stop
ROWS = 2  # of a slot: with guidance the U-Net sees it without and with its prompt


@dataclass(frozen=True, slots=True)
class Width:
    """How many slots share a U-Net call, and whether calls of several slots all have the same number of rows."""

    slots: int
    exact: bool

    @property
    def floats(self) -> bool:
        """Whether the shape of a call depends on how many share it."""
        return self.slots > 1 and not self.exact

    @property
    def calls(self) -> list[int]:
        """All the numbers of rows that a call may have."""
        return sorted({self.rows(needed) for needed in range(1, self.slots * ROWS + 1)})

    def rows(self, needed: int) -> int:
        """The rows of a call in which ``needed`` are in use.

        All in the exact mode; else 1, 2, 3, 4, 6, 8, 12, 16, …: few enough to compile each, and never a third too many.
        """
        if self.slots == 1:
            return needed  # a call of one slot: its shape depends on nothing but that slot
        if self.exact:
            return self.slots * ROWS
        power = 1 << (needed - 1).bit_length()
        return power * 3 // 4 if power > 2 and needed <= power * 3 // 4 else power


@dataclass(slots=True, eq=False)
class Slot:
    """One picture on its way from noise to latents. ``past`` and ``at`` change together, at the end of a tick."""

    model: Model
    course: Course
    context: torch.Tensor  # (1 or ROWS, 77, width): what the prompt says, after what the negative prompt says
    guidance: float
    urgency: tuple[Any, ...]  # the least goes first; it begins with the lane
    alone: bool  # a job that failed before is not to take others with it
    state: "State"

    @property
    def kind(self) -> tuple[Model, Shape]:
        """What slots of one call have in common."""
        return self.model, tuple(self.latents.shape)

    @property
    def latents(self) -> torch.Tensor:
        """(4, height / 8, width / 8), float32."""
        return self.state.past[0]

    @property
    def done(self) -> bool:
        return self.state.at == len(self.course)


@dataclass(frozen=True, slots=True)
class State:
    """All that the next step needs, after ``at`` U-Net evaluations: replaced as a whole, never changed."""

    at: int
    past: torch.Tensor  # (SAMPLES + OUTPUTS - 1, 4, h, w) float32: samples, then outputs, each from new to old


@dataclass(slots=True, eq=False)
class Sitting:
    """The slots of one job on the device, the news of them, and what becomes of the latents of those that are done."""

    slots: list[Slot]
    work: Callable[[list[torch.Tensor]], Sequence[Any]]  # from latents to results
    key: Any  # sittings of the same work and key may share a call of it
    fallback: Callable[[list[torch.Tensor]], Sequence[Any]] | None = None  # the same work with less memory
    results: "dict[Slot, Future[Any]]" = field(default_factory=dict)
    news: "SimpleQueue[int | BaseException]" = field(default_factory=SimpleQueue)
    failed: bool = False
    widths: set[Width] = field(default_factory=set)  # of the ticks so far
    rows: set[int] = field(default_factory=set)  # of their U-Net calls

    @property
    def done(self) -> int:
        return sum(slot.state.at for slot in self.slots)

    def progress(self) -> Iterator[int | None]:
        """The U-Net evaluations that are behind, whenever there are more of them, until all are; None where there was
        no news for LOOK_SECONDS. Raises what a tick raised."""
        while not all(slot.done for slot in self.slots):
            yield self._latest()

    def _latest(self) -> int | None:
        try:
            news = self.news.get(timeout=LOOK_SECONDS)
        except Empty:
            return None
        try:
            while not isinstance(news, BaseException):
                news = self.news.get_nowait()
        except Empty:
            pass
        if isinstance(news, BaseException):
            raise news
        return news


def begin(course: Course, noise: torch.Tensor) -> State:
    """The state before the first step, from standard normal noise (4, h, w)."""
    past = torch.zeros((SAMPLES + OUTPUTS - 1, *noise.shape), device=noise.device)
    past[0] = noise * course.noise
    return State(0, past)


def draw_noise(model: Model, width: int, height: int, seed: int) -> torch.Tensor:
    """Standard normal latents (4, height / 8, width / 8): drawn on the CPU in float32, the same for every device."""
    shape = (1, *latents_shape(model, width, height))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(model.device)[0]


def latents_shape(model: Model, width: int, height: int) -> Shape:
    return model.unet.config.in_channels, height // LATENT_FACTOR, width // LATENT_FACTOR


def is_even(model: Model, shape: Shape, rows: int) -> bool:
    """Whether the U-Net gives a row of latents of ``shape`` the same bits at each place of a call of ``rows``.

    Tried, not assumed: equal rows go in, and equal ones must come out. It fails where the last of the matrices that
    such small pictures become fills no whole block of a kernel.
    """
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(shape, generator=generator).to(model.device, model.dtype)
    context = torch.randn((77, model.unet.config.cross_attention_dim), generator=generator).to(sample)
    steps = torch.full((rows,), 500.0, device=model.device)
    answer = model.unet(
        sample.expand(rows, *shape).contiguous(),
        steps,
        encoder_hidden_states=context.expand(rows, *context.shape).contiguous(),
    ).sample
    return bool((answer == answer[:1]).all())


def choose(slots: Iterable[Slot], width_of: Callable[[Model, Shape], Width]) -> list[Slot]:
    """The slots of the next call: the most urgent one, then others of its kind in their order while rows are free.

    Where a wider call takes longer, an interactive picture shares it with none of the batch lane.
    """
    waiting = sorted(slots, key=lambda slot: slot.urgency)
    if not waiting:
        return []
    first, *others = waiting
    width = width_of(*first.kind)
    chosen, free = [first], width.slots * ROWS - len(first.context)
    for slot in others if width.slots > 1 else ():
        alike = slot.model is first.model and slot.latents.shape == first.latents.shape
        slows = width.floats and slot.urgency[:1] != first.urgency[:1]
        fits = alike and not (first.alone or slot.alone or slows)
        if fits and len(slot.context) <= free:
            chosen.append(slot)
            free -= len(slot.context)
    return chosen


def tick(chosen: Sequence[Slot], width: Width) -> None:
    """One U-Net evaluation for every chosen slot, and its scheduler's update. Either all move on or none does."""
    states = [slot.state for slot in chosen]
    rows = [len(slot.context) for slot in chosen]
    past = torch.stack([state.past for state in states])
    output = _predict(chosen, past[:, 0], rows, width.rows(sum(rows)))
    samples = [slot.course.samples[state.at] for slot, state in zip(chosen, states, strict=True)]
    outputs = [slot.course.outputs[state.at] for slot, state in zip(chosen, states, strict=True)]
    known = torch.cat([past[:, :SAMPLES], output[:, None], past[:, SAMPLES:]], dim=1)
    weights = torch.cat([torch.stack(samples), torch.stack(outputs)], dim=1).to(known.device)
    latents = _weigh(known, weights)
    moved = torch.cat([latents[:, None], known[:, : SAMPLES - 1], known[:, SAMPLES:-1]], dim=1)
    pasts = [past.clone() for past in moved.unbind()]  # its own memory: a slot must not keep its company alive
    for slot, state, new in zip(chosen, states, pasts, strict=True):
        slot.state = State(state.at + 1, new)


def _predict(chosen: Sequence[Slot], latents: torch.Tensor, rows: list[int], total: int) -> torch.Tensor:
    """The noise that the U-Net sees in each slot's ``latents``, (n, 4, h, w), with guidance (Ho and Salimans, 2022)."""
    model = chosen[0].model
    owners = [place for place, count in enumerate(rows) for _ in range(count)]
    scale = torch.stack([slot.course.scale[slot.state.at] for slot in chosen]).to(latents.device)
    timesteps = torch.stack([slot.course.timesteps[slot.state.at] for slot in chosen]).to(latents.device)
    seen = (latents * scale.view(-1, 1, 1, 1)).to(model.dtype)[owners]
    context = torch.cat([slot.context for slot in chosen])
    spare = total - len(seen)
    answer = model.unet(
        pad(seen, (0, 0, 0, 0, 0, 0, 0, spare)),
        pad(timesteps[owners], (0, spare)),
        encoder_hidden_states=pad(context, (0, 0, 0, 0, 0, spare)),
    ).sample.float()
    last = [end - 1 for end in accumulate(rows)]
    prompted = answer[last]
    unprompted = answer[[end - count + 1 for end, count in zip(last, rows, strict=True)]]
    guidance = torch.tensor([slot.guidance for slot in chosen], device=answer.device).view(-1, 1, 1, 1)
    guided: torch.Tensor = unprompted + guidance * (prompted - unprompted)
    return guided


def _weigh(known: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum of ``known`` (n, k, 4, h, w) with ``weights`` (n, k). One term after the other: the same bits for every n."""
    total = torch.zeros_like(known[:, 0])
    for term in range(known.shape[1]):
        total = total + known[:, term] * weights[:, term].view(-1, 1, 1, 1)
    return total
