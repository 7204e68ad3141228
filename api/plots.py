"""Scores of groups in; where their dots, means and spreads lie on one scale with round ticks, out. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.figures import Figures

WIDTH, HEIGHT = 320, 24  # of a plot, in units of its view box
EDGE = 8  # left and right of the scale
MAX_DOTS = 300  # of a group
CROWD = 8  # dots that lie on one line; more are spread above and below it
GOLDEN = 0.6180339887  # its multiples fall evenly and never in rows


@dataclass(frozen=True, slots=True)
class Scale:
    """From ``low`` to ``high``, with a tick at every multiple of ``step``."""

    low: float
    high: float
    step: float

    def place(self, score: float) -> float:
        return round(EDGE + (WIDTH - 2 * EDGE) * (score - self.low) / (self.high - self.low), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where each lies, and what it says."""
        count = round((self.high - self.low) / self.step)
        values = [self.low + self.step * number for number in range(count + 1)]
        return [(self.place(value), f"{value:g}") for value in values]


def scale_of(scores: Sequence[float]) -> Scale:
    """Wide enough for all, with two to five steps of 1, 2 or 5 times a power of ten."""
    low, high = min(scores), max(scores)
    rough = max(high - low, 0.1) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
    start, end = math.floor(low / step), math.ceil(high / step)
    return Scale(start * step, max(end, start + 1) * step, step)


def plot(figures: Figures, axis: str) -> dict[str, Any]:
    """A table of the axis: its scale, and each group with its place on it."""
    groups, scores = figures.groups(axis), list(figures.scores[axis].values())
    scale = scale_of([score for group in scores for score in group])
    return {
        "axis": axis,
        "ticks": scale.ticks,
        "groups": [_draw(scale, group, group[axis], own) for group, own in zip(groups, scores, strict=True)],
    }


def _draw(scale: Scale, group: dict[str, Any], value: str, scores: Sequence[float]) -> dict[str, Any]:
    shown = scores[:: max(1, math.ceil(len(scores) / MAX_DOTS))]
    spread = HEIGHT - 12 if len(shown) > CROWD else 0
    ends = [group["mean"] + side * (group["deviation"] or 0) for side in (-1, 1)]
    return group | {
        "value": value,
        "dots": [
            (scale.place(score), round(HEIGHT / 2 + spread * ((number * GOLDEN) % 1 - 0.5), 1))
            for number, score in enumerate(shown)
        ],
        "middle": scale.place(group["mean"]),
        "reach": [scale.place(min(max(end, scale.low), scale.high)) for end in ends],
    }
