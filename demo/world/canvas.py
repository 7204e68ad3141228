"""Polygons in, a picture taken apart out: flat color, light on it, gloss, and whose pixel it is. Pure NumPy and Pillow.

The parts are kept separate so that every look can put them together again in its own way: a photograph multiplies
them, line art draws the borders of the labels, a comic rounds the light to dots.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats = NDArray[np.floating[Any]]
Color = tuple[float, float, float]  # red, green, blue in 0..1
Point = tuple[float, float]  # x to the right, y down

LIGHT_FROM = (-0.55, -0.83)  # upper left


@dataclass(frozen=True)
class Frame:
    """Where a thing stands: its own coordinates have its foot at (0, 0) and its head at about (0, -1)."""

    x: float  # of the foot, in picture widths
    y: float
    scale: float  # its height, in picture widths
    angle: float = 0.0  # radians, clockwise
    flip: bool = False  # looks to the left

    def place(self, points: Iterable[Point]) -> list[Point]:
        cos, sin = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        side = -1 if self.flip else 1
        return [(self.x + side * (x * cos - y * sin), self.y + x * sin + y * cos) for x, y in points]

    def inner(self, x: float, y: float, scale: float) -> "Frame":
        """The frame of a part: its origin is at (x, y) of this one, its unit ``scale`` of this one's."""
        ((at_x, at_y),) = self.place([(x, y)])
        return replace(self, x=at_x, y=at_y, scale=self.scale * scale)


WHOLE = Frame(0.0, 0.0, 1.0)  # picture coordinates: (0, 0) is the upper left, (1, 1) the lower right


class Canvas:
    """One scene while it is being painted, back to front. ``size`` is its side in pixels."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.color: Floats = np.ones((size, size, 3), np.float32)
        self.light: Floats = np.ones((size, size), np.float32)  # 1: as lit as the flat color says
        self.gloss: Floats = np.zeros((size, size), np.float32)  # white added by reflection
        self.label: NDArray[np.int32] = np.zeros((size, size), np.int32)  # one number for each part
        self.thing: Floats = np.zeros((size, size), np.float32)  # 1 where the thing is, not what is around it
        self._parts = 0
        self.frame = WHOLE
        self.is_thing = False  # while a thing is being painted

    def polygon(
        self,
        points: Sequence[Point],
        color: Color,
        *,
        relief: float = 0.0,
        gloss: float = 0.0,
        alpha: float = 1.0,
        lines: bool = True,
        fade: Color | None = None,
    ) -> None:
        """Paint a filled polygon. ``relief`` 0 is flat, 1 a ball; ``fade`` is the color of its lower end.

        ``lines=False`` leaves the part out of the outlines.
        """
        where, mask = self._mask(self.frame.place(points))
        if mask is None:
            return
        opacity = mask * np.float32(alpha)
        paint = np.asarray(color, np.float32)
        if fade is not None:
            share = np.linspace(0, 1, mask.shape[0], dtype=np.float32)[:, None, None]
            paint = paint * (1 - share) + np.asarray(fade, np.float32) * share
        self.color[where] += (paint - self.color[where]) * opacity[..., None]
        light, shine = self._relief(mask, relief, gloss)
        self.light[where] += (light - self.light[where]) * opacity
        self.gloss[where] += (shine - self.gloss[where]) * opacity
        if self.is_thing:
            self.thing[where] = np.maximum(self.thing[where], opacity)
        if lines:
            self._parts += 1
            self.label[where][mask > 0.5] = self._parts

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, color: Color, *, tilt: float = 0.0, **how: object
    ) -> None:
        self.polygon(oval(x, y, rx, ry, tilt), color, **how)  # type: ignore[arg-type]

    def blob(self, points: Sequence[Point], color: Color, **how: object) -> None:
        """A closed smooth curve through ``points``."""
        self.polygon(smooth(points, closed=True), color, **how)  # type: ignore[arg-type]

    def stroke(self, points: Sequence[Point], width: float, color: Color, *, end: float = 1.0, **how: object) -> None:
        """A smooth line through ``points``; its last width is ``end`` times the first."""
        self.polygon(ribbon(smooth(points, closed=False), width, width * end), color, **how)  # type: ignore[arg-type]

    @contextmanager
    def moved(self, x: float, y: float, scale: float) -> Iterator[None]:
        """Paint in the coordinates of a part: see Frame.inner."""
        outer, self.frame = self.frame, self.frame.inner(x, y, scale)
        yield
        self.frame = outer

    def _mask(self, points: Sequence[Point]) -> tuple[tuple[slice, slice], Floats | None]:
        """The polygon's pixels inside its bounding box, 0..1."""
        xs, ys = [x * self.size for x, _ in points], [y * self.size for _, y in points]
        left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
        right, bottom = min(self.size, math.ceil(max(xs)) + 1), min(self.size, math.ceil(max(ys)) + 1)
        where = (slice(top, bottom), slice(left, right))
        if right <= left or bottom <= top:
            return where, None
        image = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(image).polygon([(x - left, y - top) for x, y in zip(xs, ys, strict=True)], fill=255)
        return where, np.asarray(image, np.float32) / 255

    def _relief(self, mask: Floats, relief: float, gloss: float) -> tuple[Floats | float, Floats | float]:
        """Light and shine of a cushion over ``mask``: its height is the blurred mask, lit from the upper left."""
        if not relief and not gloss:
            return 1.0, 0.0
        height, width = mask.shape
        radius = max(1.0, min(height, width) / 5)
        padded = Image.fromarray((np.pad(mask, 2) * 255).astype(np.uint8))
        soft = np.asarray(padded.filter(ImageFilter.GaussianBlur(radius)), np.float32)[2:-2, 2:-2] / 255
        dy, dx = np.gradient(soft) if min(height, width) > 1 else (soft * 0, soft * 0)
        slope = -(dx * LIGHT_FROM[0] + dy * LIGHT_FROM[1]) * radius
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
        facing = rows * LIGHT_FROM[1] + columns * LIGHT_FROM[0]
        light = 1 + relief * (0.85 * slope + 0.20 * facing - 0.10)
        spot = np.exp(-((rows + 0.45) ** 2 + (columns + 0.38) ** 2) / 0.05)
        return np.clip(light, 0.35, 1.35), gloss * spot


def path(points: str) -> list[Point]:
    """Points as SVG writes them: "x,y x,y"."""
    return [(float(x), float(y)) for x, y in (point.split(",") for point in points.split())]


def oval(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, count: int = 40) -> list[Point]:
    cos, sin = math.cos(tilt), math.sin(tilt)
    turns = [2 * math.pi * step / count for step in range(count)]
    arms = [(rx * math.cos(turn), ry * math.sin(turn)) for turn in turns]
    return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in arms]


_T = np.arange(8)[:, None] / 8  # eight points between two knots
_CATMULL_ROM = 0.5 * np.concatenate(
    [-_T + 2 * _T**2 - _T**3, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, _T**3 - _T**2], axis=1
)


def smooth(points: Sequence[Point], *, closed: bool) -> list[Point]:
    """A Catmull-Rom curve through ``points`` (Catmull and Rom, 1974)."""
    knots = np.array(points, np.float64)
    count = len(knots)
    near = np.arange(count if closed else count - 1)[:, None] + np.arange(-1, 3)[None]
    near = near % count if closed else near.clip(0, count - 1)
    curve = np.einsum("sk,nkd->nsd", _CATMULL_ROM, knots[near]).reshape(-1, 2)
    rounded = [(float(x), float(y)) for x, y in curve]
    return rounded if closed else [*rounded, points[-1]]


def ribbon(points: Sequence[Point], first: float, last: float) -> list[Point]:
    """The outline of a line through ``points`` whose width goes from ``first`` to ``last``."""
    line = np.array(points)
    along = np.gradient(line, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    half = np.linspace(first, last, len(line))[:, None] / 2
    left, right = line + across * half, line - across * half
    return [(float(x), float(y)) for x, y in np.concatenate([left, right[::-1]])]
