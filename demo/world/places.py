"""The places that have no ground under an open sky, and the table of all twelve."""

import random
from collections.abc import Callable

from demo.world.air import cloud, gradient, paint_sky, stars
from demo.world.canvas import Canvas, Color
from demo.world.colors import tone
from demo.world.landscapes import Stand, beach, city, desert, forest, hill, meadow, mountains, snow
from demo.world.scene import Scene


def sky(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    paint_sky(canvas, scene, rng, 1.0)
    for _ in range(3):
        cloud(canvas, scene, rng.random(), rng.uniform(0.15, 0.95), rng, size=1.3)
    for step in range(4):
        cloud(canvas, scene, (step + rng.random()) / 4, rng.uniform(0.92, 1.0), rng, size=1.7)
    return Stand(0.78, 0.90, small=0.42, large=0.64, floats=True, horizon=1.0)


def space(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    gradient(canvas, (0.02, 0.02, 0.08), (0.07, 0.04, 0.17))
    for _ in range(3):
        x, y, haze = (
            rng.random(),
            rng.random(),
            rng.choice(((0.30, 0.12, 0.42), (0.10, 0.16, 0.46), (0.40, 0.12, 0.32))),
        )
        for size in (0.34, 0.24, 0.14):
            canvas.ellipse(x, y, size, size * 0.6, haze, tilt=rng.uniform(-0.6, 0.6), alpha=0.22, lines=False)
    stars(canvas, rng, 48)
    x, y, size = (
        rng.choice((rng.uniform(0.08, 0.26), rng.uniform(0.74, 0.92))),
        rng.uniform(0.12, 0.34),
        rng.uniform(0.08, 0.13),
    )
    planet = rng.choice(((0.86, 0.56, 0.30), (0.36, 0.58, 0.86), (0.80, 0.40, 0.36), (0.70, 0.66, 0.86)))
    canvas.ellipse(x, y, size, size, planet, relief=1.0, fade=tone(planet, 0.7))
    if rng.random() < 0.5:
        canvas.stroke(
            [(x - 1.7 * size, y + 0.35 * size), (x, y + 0.20 * size), (x + 1.7 * size, y - 0.35 * size)],
            0.024,
            (0.92, 0.84, 0.66),
        )
    return Stand(0.76, 0.92, small=0.46, large=0.70, floats=True, horizon=1.0)


def underwater(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    gradient(canvas, (0.20, 0.72, 0.86), (0.02, 0.22, 0.46))
    for _ in range(4):
        x, wide = rng.random(), rng.uniform(0.05, 0.10)
        canvas.polygon(
            [(x, -0.05), (x + wide, -0.05), (x + wide * 1.6 - 0.15, 0.85), (x - 0.22, 0.85)],
            (0.75, 0.95, 0.98),
            alpha=0.16,
            lines=False,
        )
    hill(canvas, 0.86, 0.03, (0.72, 0.68, 0.48), rng)
    for _ in range(4):
        x, bend = rng.random(), rng.uniform(-0.04, 0.04)
        top = rng.uniform(0.56, 0.74)
        canvas.stroke(
            [(x, 0.96), (x + bend, 0.85), (x - bend, (top + 0.85) / 2), (x + bend, top)],
            0.035,
            (0.10, 0.52, 0.36),
            end=0.4,
        )
    for _ in range(9):
        x, y, size = rng.random(), rng.uniform(0.05, 0.85), rng.uniform(0.010, 0.022)
        canvas.ellipse(x, y, size, size, (0.78, 0.94, 0.98))
        canvas.ellipse(x, y, size * 0.65, size * 0.65, (0.30, 0.70, 0.84), lines=False)
    return Stand(0.74, 0.92, small=0.42, large=0.66, floats=True, horizon=1.0)


def table(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    wall = rng.choice(((0.80, 0.78, 0.70), (0.66, 0.74, 0.76), (0.78, 0.68, 0.62), (0.62, 0.66, 0.60)))
    gradient(canvas, tone(wall, 1.08), tone(wall, 0.82), 0.7)
    edge = rng.uniform(0.52, 0.64)
    wood: Color = rng.choice(((0.64, 0.40, 0.21), (0.56, 0.34, 0.18), (0.72, 0.48, 0.27)))
    canvas.polygon([(-0.1, edge), (1.1, edge), (1.1, 1.1), (-0.1, 1.1)], wood, fade=tone(wood, 0.85))
    for y in (edge + 0.10, edge + 0.22, edge + 0.36):
        canvas.stroke([(-0.1, y), (1.1, y)], 0.010, tone(wood, 0.66))
    for _ in range(7):
        x, y = rng.random(), rng.uniform(edge + 0.03, 0.98)
        canvas.stroke(
            [(x - 0.16, y), (x, y + rng.uniform(-0.01, 0.01)), (x + 0.16, y)], 0.008, tone(wood, 0.80), lines=False
        )
    return Stand(edge + 0.12, 0.92, small=0.40, large=0.70, horizon=edge)


def plain(canvas: Canvas, scene: Scene, rng: random.Random) -> Stand:
    pale = rng.choice(((0.93, 0.93, 0.92), (0.88, 0.90, 0.93), (0.94, 0.90, 0.84), (0.86, 0.91, 0.88)))
    gradient(canvas, tone(pale, 1.3), tone(pale, 0.90))
    return Stand(0.82, 0.94, small=0.52, large=0.82, horizon=0.75)


PLACE_PAINTERS: dict[str, Callable[[Canvas, Scene, random.Random], Stand]] = {
    "meadow": meadow, "forest": forest, "mountains": mountains, "beach": beach, "desert": desert, "snow": snow,
    "city": city, "sky": sky, "space": space, "underwater": underwater, "table": table, "plain": plain,
}  # fmt: skip
