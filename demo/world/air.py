"""Sky, light and weather: what the hour and the air do to a scene."""

import random
from dataclasses import dataclass

import numpy as np

from demo.world.canvas import WHOLE, Canvas, Color
from demo.world.colors import blend, tone
from demo.world.scene import Scene


@dataclass(frozen=True)
class Hour:
    """The light of an hour: the sky from top to horizon, and by what it multiplies all other colors."""

    top: Color
    low: Color
    tint: Color


HOURS: dict[str, Hour] = {
    "day": Hour((0.28, 0.56, 0.92), (0.80, 0.91, 0.98), (1.0, 1.0, 1.0)),
    "dawn": Hour((0.56, 0.62, 0.88), (1.0, 0.80, 0.74), (1.0, 0.90, 0.92)),
    "sunset": Hour((0.44, 0.24, 0.50), (1.0, 0.60, 0.24), (1.05, 0.80, 0.62)),
    "night": Hour((0.03, 0.05, 0.17), (0.13, 0.18, 0.38), (0.40, 0.46, 0.70)),
}
MIST: Color = (0.86, 0.88, 0.90)
RAIN: Color = (0.50, 0.55, 0.62)


def lit(color: Color, scene: Scene, share: float = 1.0) -> Color:
    """``color`` in the light of the scene's hour; ``share`` below 1 for what is to keep its name at night."""
    tint = blend((1.0, 1.0, 1.0), HOURS[scene.light].tint, share)
    gray = 0.86 if scene.weather == "rain" else 1.0
    r, g, b = (min(1.0, a * t * gray) for a, t in zip(color, tint, strict=True))
    return (r, g, b)


def paint_sky(canvas: Canvas, scene: Scene, rng: random.Random, horizon: float) -> None:
    """The whole picture's sky: a gradient down to ``horizon``, then sun, moon and stars, or clouds."""
    hour = HOURS[scene.light]
    top, low = hour.top, hour.low
    if scene.weather == "rain":
        top, low = blend(top, lit(RAIN, scene), 0.75), blend(low, lit(tone(RAIN, 1.3), scene), 0.75)
    gradient(canvas, top, low, horizon)
    if scene.light == "night" and scene.weather != "rain":
        stars(canvas, rng, 26, horizon)
        x, y = rng.uniform(0.12, 0.88), rng.uniform(0.14, 0.24)
        canvas.ellipse(x, y, 0.10, 0.10, (0.30, 0.33, 0.50), alpha=0.5, lines=False)
        canvas.ellipse(x, y, 0.065, 0.065, (0.97, 0.95, 0.82), relief=0.25)
    elif scene.light in ("dawn", "sunset") and scene.weather == "clear":
        x, size = rng.uniform(0.15, 0.85), 0.085 if scene.light == "dawn" else 0.11
        y = horizon - rng.uniform(0.02, 0.14)
        sun: Color = (1.0, 0.93, 0.72) if scene.light == "dawn" else (1.0, 0.80, 0.30)
        canvas.ellipse(x, y, size * 1.7, size * 1.7, sun, alpha=0.3, lines=False)
        canvas.ellipse(x, y, size, size, sun)
    if scene.light != "night" or scene.weather == "rain":
        for _ in range(rng.choice((1, 2, 3))):
            cloud(canvas, scene, rng.uniform(0.05, 0.95), rng.uniform(0.08, max(0.12, horizon - 0.2)), rng)


def gradient(canvas: Canvas, top: Color, low: Color, horizon: float = 1.0) -> None:
    share = np.clip(np.linspace(0, 1, canvas.size, dtype=np.float32) / max(horizon, 0.05), 0, 1)[:, None, None]
    canvas.color[:] = np.asarray(top, np.float32) * (1 - share) + np.asarray(low, np.float32) * share


def cloud(canvas: Canvas, scene: Scene, x: float, y: float, rng: random.Random, size: float = 1.0) -> None:
    white: Color = (0.97, 0.97, 0.99) if scene.weather != "rain" else (0.62, 0.65, 0.70)
    color = blend(lit(white, scene), HOURS[scene.light].low, 0.35 if scene.light != "day" else 0.05)
    wide = rng.uniform(0.10, 0.17) * size
    outline = [(-1.0, 0.15), (-0.75, -0.25), (-0.35, -0.30), (-0.05, -0.62), (0.40, -0.40), (0.72, -0.22), (1.0, 0.15)]
    canvas.blob([*((x + wide * a, y + wide * b * 0.8) for a, b in outline), (x, y + 0.22 * wide)], color, relief=0.35)


def stars(canvas: Canvas, rng: random.Random, count: int, low: float = 1.0) -> None:
    for _ in range(count):
        size = rng.choice((0.004, 0.006, 0.009))
        glow = rng.uniform(0.7, 1.0)
        canvas.ellipse(
            rng.random(), rng.uniform(0, low), size, size, (glow, glow, min(1.0, glow + 0.1)), lines=size > 0.007
        )


def veil(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """Mist over what has been painted: thickest at the horizon. Called for the background, and thinner at the end."""
    if scene.weather != "mist":
        return
    rows = np.linspace(0, 1, canvas.size, dtype=np.float32)
    thick = np.where(rows < horizon, 0.25 + 0.43 * rows / max(horizon, 0.05), 0.68 - 0.7 * (rows - horizon))
    share = thick[:, None, None].astype(np.float32)
    pale = np.asarray(blend(lit(MIST, scene), HOURS[scene.light].low, 0.25), np.float32)
    canvas.color += (pale - canvas.color) * share
    canvas.light += (1 - canvas.light) * share[..., 0]


def rain(canvas: Canvas, scene: Scene, rng: random.Random) -> None:
    """Slanting streaks over everything."""
    if scene.weather != "rain":
        return
    canvas.frame = WHOLE
    slant = rng.uniform(0.02, 0.05)
    color = lit((0.86, 0.91, 0.98), scene)
    for _ in range(34):
        x, y, long = rng.uniform(-0.05, 1.05), rng.uniform(-0.1, 1.0), rng.uniform(0.07, 0.12)
        width = 0.008
        corners = [(x, y), (x + width, y), (x - slant + width, y + long), (x - slant, y + long)]
        canvas.polygon(corners, color, alpha=0.75)
