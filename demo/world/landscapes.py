"""The places under the open sky. Each paints the whole background and says where a thing may stand in it."""

import math
import random
from dataclasses import dataclass

from demo.world.air import lit, paint_sky
from demo.world.canvas import Canvas, Color
from demo.world.colors import blend, tone
from demo.world.scene import Scene


@dataclass(frozen=True)
class Stand:
    """Where the foot of a thing may be, how high the thing may be, and whether it floats there."""

    top: float  # picture heights from the top
    bottom: float
    small: float = 0.42
    large: float = 0.74
    floats: bool = False
    horizon: float = 0.6


def meadow(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    horizon = rng.uniform(0.48, 0.64)
    paint_sky(canvas, scene, rng, horizon)
    hill(canvas, horizon - 0.05, 0.08, lit((0.42, 0.66, 0.36), scene), rng)
    hill(canvas, horizon + 0.03, 0.04, lit((0.36, 0.66, 0.24), scene), rng)
    petals: tuple[Color, ...] = ((0.98, 0.90, 0.30), (0.98, 0.98, 0.95), (0.95, 0.45, 0.55))
    for _ in range(9):
        x, y = rng.random(), rng.uniform(horizon + 0.12, 0.98)
        canvas.ellipse(x, y, 0.013, 0.012, lit(rng.choice(petals), scene))
    return Stand(horizon + 0.20, 0.95, horizon=horizon)


def forest(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    horizon = rng.uniform(0.56, 0.66)
    paint_sky(canvas, scene, rng, horizon)
    far, near = lit((0.36, 0.54, 0.42), scene), lit((0.16, 0.40, 0.22), scene)
    for step in range(9):
        pine(canvas, (step + rng.uniform(0.1, 0.9)) / 9, horizon + 0.04, rng.uniform(0.30, 0.42), far)
    hill(canvas, horizon + 0.02, 0.02, lit((0.34, 0.46, 0.22), scene), rng)
    for x in (-0.02, 0.12, 0.26, 0.74, 0.88, 1.02):
        pine(
            canvas,
            x + rng.uniform(-0.05, 0.05),
            horizon + rng.uniform(0.06, 0.14),
            rng.uniform(0.46, 0.66),
            tone(near, rng.uniform(0.85, 1.15)),
        )
    path = [(0.44, horizon + 0.04), (0.56, horizon + 0.04), (0.62, 0.8), (0.78, 1.05), (0.24, 1.05), (0.40, 0.8)]
    canvas.blob(path, lit((0.66, 0.52, 0.34), scene), lines=scene.thing is None)
    return Stand(horizon + 0.22, 0.95, horizon=horizon)


def mountains(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    horizon = rng.uniform(0.52, 0.64)
    paint_sky(canvas, scene, rng, horizon)
    for x, high in ((rng.uniform(0.0, 0.3), 0.34), (rng.uniform(0.7, 1.0), 0.30), (rng.uniform(0.35, 0.65), 0.44)):
        _peak(canvas, x, horizon + 0.06, high * rng.uniform(0.85, 1.1), scene)
    hill(canvas, horizon + 0.02, 0.03, lit((0.34, 0.58, 0.26), scene), rng)
    return Stand(horizon + 0.20, 0.95, horizon=horizon)


def _peak(canvas: Canvas, x: float, y: float, high: float, scene: Scene) -> None:
    rock = lit((0.46, 0.48, 0.58), scene)
    wide = high * 0.95
    canvas.polygon([(x - wide, y), (x, y - high), (x + wide, y)], rock, fade=tone(rock, 1.15))
    canvas.polygon([(x, y - high), (x + wide, y), (x + 0.15 * wide, y)], tone(rock, 0.78), lines=False)
    snow = [
        (x, y - high),
        (x + 0.33 * wide, y - 0.67 * high),
        (x + 0.14 * wide, y - 0.72 * high),
        (x, y - 0.60 * high),
        (x - 0.15 * wide, y - 0.71 * high),
        (x - 0.33 * wide, y - 0.67 * high),
    ]
    canvas.polygon(snow, lit((0.97, 0.98, 1.0), scene))


def beach(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    horizon = rng.uniform(0.40, 0.52)
    paint_sky(canvas, scene, rng, horizon)
    shore = horizon + rng.uniform(0.14, 0.20)
    sea = lit((0.10, 0.52, 0.74), scene)
    canvas.polygon([(-0.1, horizon), (1.1, horizon), (1.1, 1.1), (-0.1, 1.1)], sea, fade=tone(sea, 1.5))
    for _ in range(4):
        x, y = rng.random(), rng.uniform(horizon + 0.03, shore - 0.03)
        canvas.stroke([(x - 0.08, y), (x, y - 0.008), (x + 0.08, y)], 0.012, tone(sea, 1.5), lines=False)
    tide = rng.uniform(-0.03, 0.03)
    for down, color in ((-0.015, (0.95, 0.97, 0.98)), (0.012, (0.93, 0.82, 0.58))):
        edge = [(-0.1, shore + down), (0.25, shore + tide + down), (0.6, shore - tide + down), (1.1, shore + down)]
        canvas.blob([*edge, (1.3, 1.4), (-0.3, 1.4)], lit(color, scene), lines=down < 0)
    if rng.random() < 0.5:
        _palm(canvas, rng.choice((0.06, 0.94)), shore + 0.14, scene)
    return Stand(shore + 0.14, 0.95, horizon=horizon)


def _palm(canvas: Canvas, x: float, y: float, scene: Scene) -> None:
    lean = 0.08 if x < 0.5 else -0.08
    canvas.stroke(
        [(x, y), (x + lean / 3, y - 0.25), (x + lean, y - 0.48)], 0.04, lit((0.52, 0.37, 0.22), scene), end=0.7
    )
    for turn in (-2.9, -2.2, -0.9, -0.2, 0.5, 2.6):
        tip = (x + lean + 0.20 * math.cos(turn), y - 0.48 + 0.14 * math.sin(turn) + 0.03)
        canvas.stroke(
            [(x + lean, y - 0.48), ((x + lean + tip[0]) / 2, tip[1] - 0.05), tip],
            0.05,
            lit((0.20, 0.55, 0.24), scene),
            end=0.2,
        )


def desert(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    horizon = rng.uniform(0.50, 0.62)
    paint_sky(canvas, scene, rng, horizon)
    sand = lit((0.90, 0.70, 0.42), scene)
    hill(canvas, horizon - 0.06, 0.09, tone(sand, 0.86), rng)
    hill(canvas, horizon + 0.02, 0.06, sand, rng)
    if rng.random() < 0.8:
        x, y, green = (
            rng.choice((0.10, 0.90)) + rng.uniform(-0.04, 0.04),
            horizon + 0.14,
            lit((0.26, 0.52, 0.28), scene),
        )
        canvas.stroke([(x, y), (x, y - 0.26)], 0.055, green, relief=0.6)
        for side, low in ((-1, 0.10), (1, 0.13)):
            canvas.stroke(
                [(x, y - low), (x + side * 0.075, y - low), (x + side * 0.08, y - low - 0.10)], 0.036, green, relief=0.5
            )
    return Stand(horizon + 0.18, 0.95, horizon=horizon)


def snow(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    horizon = rng.uniform(0.50, 0.62)
    paint_sky(canvas, scene, rng, horizon)
    white = lit((0.95, 0.97, 1.0), scene)
    for step in range(5):
        pine(
            canvas,
            (step + rng.uniform(0.1, 0.9)) / 5,
            horizon + 0.05,
            rng.uniform(0.20, 0.32),
            lit((0.46, 0.60, 0.60), scene),
            cap=white,
        )
    hill(canvas, horizon + 0.02, 0.05, tone(white, 0.93), rng)
    hill(canvas, horizon + 0.16, 0.05, white, rng)
    for _ in range(26):
        canvas.ellipse(rng.random(), rng.random(), 0.008, 0.008, (1.0, 1.0, 1.0))
    return Stand(horizon + 0.20, 0.95, horizon=horizon)


def city(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    horizon = rng.uniform(0.62, 0.70)
    paint_sky(canvas, scene, rng, horizon)
    walls: tuple[Color, ...] = (
        (0.72, 0.52, 0.44),
        (0.58, 0.62, 0.70),
        (0.78, 0.70, 0.58),
        (0.48, 0.54, 0.64),
        (0.66, 0.60, 0.62),
    )
    glow: Color = (0.99, 0.86, 0.48) if scene.light in ("night", "sunset") else (0.80, 0.90, 0.97)
    x = rng.uniform(-0.15, 0.0)
    while x < 1.0:
        wide, high = rng.choice((0.15, 0.18, 0.21)), rng.uniform(0.28, 0.58)
        wall = lit(rng.choice(walls), scene)
        canvas.polygon(
            [(x, horizon - high), (x + wide, horizon - high), (x + wide, horizon + 0.02), (x, horizon + 0.02)],
            wall,
            fade=tone(wall, 0.9),
        )
        for row in range(int(high / 0.085)):
            for column in (0.28, 0.72):
                a, b = x + column * wide, horizon - high + 0.045 + row * 0.085
                canvas.polygon(
                    [(a - 0.02, b - 0.02), (a + 0.02, b - 0.02), (a + 0.02, b + 0.02), (a - 0.02, b + 0.02)],
                    glow if rng.random() < 0.75 else tone(wall, 0.6),
                    lines=row % 2 == 0,
                )
        x += wide + rng.uniform(0.0, 0.02)
    road = lit((0.40, 0.41, 0.44), scene)
    canvas.polygon([(-0.1, horizon), (1.1, horizon), (1.1, 1.1), (-0.1, 1.1)], road, fade=tone(road, 0.9))
    canvas.polygon(
        [(-0.1, horizon), (1.1, horizon), (1.1, horizon + 0.04), (-0.1, horizon + 0.04)], lit((0.70, 0.69, 0.67), scene)
    )
    for step in range(4):
        a = 0.02 + step * 0.27
        canvas.polygon(
            [(a, 0.90), (a + 0.13, 0.90), (a + 0.12, 0.925), (a - 0.01, 0.925)], lit((0.93, 0.92, 0.85), scene)
        )
    return Stand(horizon + 0.14, 0.95, horizon=horizon)


def hill(canvas: Canvas, y: float, rise: float, color: Color, rng: random.Random) -> None:
    """The ground from about ``y`` down, its edge rolling by ``rise``."""
    edge = [(-0.15 + 0.26 * step, y + rng.uniform(-rise, rise)) for step in range(6)]
    canvas.blob([*edge, (1.4, 1.4), (-0.4, 1.4)], color, fade=tone(color, 0.82))


def pine(canvas: Canvas, x: float, y: float, high: float, color: Color, cap: Color | None = None) -> None:
    canvas.polygon(
        [(x - 0.015, y), (x + 0.015, y), (x + 0.015, y - 0.2 * high), (x - 0.015, y - 0.2 * high)],
        blend(color, (0.40, 0.26, 0.16), 0.6),
    )
    for low, wide in ((0.14, 0.30), (0.38, 0.24), (0.62, 0.17)):
        tip, base = y - min(1.0, low + 0.44) * high, y - low * high
        canvas.polygon([(x, tip), (x + wide * high, base), (x - wide * high, base)], color, relief=0.3)
        if cap:
            canvas.polygon(
                [(x, tip), (x + 0.5 * wide * high, (tip + base) / 2), (x - 0.5 * wide * high, (tip + base) / 2)], cap
            )
