"""Horse and unicorn, and the legs of whatever stands on four."""

import random

from demo.world.canvas import Canvas, Color, path
from demo.world.colors import BLACK, WHITE, tone


def horse(canvas: Canvas, color: Color, rng: random.Random) -> None:
    _equine(canvas, color, rng, mane=tone(color, 0.35) if sum(color) > 0.7 else (0.55, 0.42, 0.30))


def unicorn(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A horse with a golden horn and a bright mane."""
    manes: tuple[Color, ...] = ((0.98, 0.50, 0.76), (0.50, 0.80, 0.98), (0.72, 0.52, 0.95), (0.99, 0.80, 0.35))
    far = [mane for mane in manes if sum(abs(a - b) for a, b in zip(mane, color, strict=True)) > 0.6]
    _equine(canvas, color, rng, mane=rng.choice(far))
    gold = (0.98, 0.80, 0.22)
    canvas.polygon(path(".47,-1.04 .55,-1 .66,-1.36"), gold, relief=0.6, fade=tone(gold, 0.75))


def _equine(canvas: Canvas, color: Color, rng: random.Random, *, mane: Color) -> None:
    """Standing or in stride, seen from the side; the back is at y = -0.66, where a rider sits."""
    flow = rng.uniform(-0.12, 0.12)
    canvas.stroke(
        [(-0.44, -0.62), (-0.62, -0.58), (-0.68 + flow, -0.38), (-0.64 + flow, -0.16)], 0.13, mane, relief=0.5, end=0.35
    )
    legs(canvas, color, rng, hips=(-0.38, -0.26), shoulders=(0.18, 0.30), top=-0.42, width=0.11, hoof=tone(color, 0.4))
    canvas.blob(path("-.48,-.64 -.2,-.66 .12,-.64 .36,-.68 .4,-.48 .2,-.34 -.28,-.34 -.5,-.46"), color, relief=0.9)
    canvas.blob(path(".16,-.6 .3,-.9 .42,-1.06 .56,-1 .5,-.8 .4,-.52"), color, relief=0.8)
    canvas.blob(path(".38,-1.06 .52,-1.08 .7,-.92 .78,-.82 .72,-.75 .56,-.8 .42,-.88"), color, relief=0.8)
    canvas.polygon(path(".4,-1.04 .42,-1.2 .5,-1.05"), color, relief=0.5)
    for share in (0.0, 0.33, 0.66, 1.0):
        x, y = 0.40 - 0.24 * share, -1.08 + 0.42 * share
        canvas.blob(
            [
                (x + 0.02, y),
                (x - 0.10, y + 0.03),
                (x - 0.15 + flow / 2, y + 0.15),
                (x - 0.02, y + 0.17),
                (x + 0.06, y + 0.1),
            ],
            mane,
            relief=0.5,
            lines=share in (0.0, 1.0),
        )
    canvas.ellipse(0.545, -0.96, 0.032, 0.038, BLACK)
    canvas.ellipse(0.538, -0.972, 0.012, 0.012, WHITE, lines=False)
    canvas.ellipse(0.72, -0.82, 0.016, 0.02, tone(color, 0.4), lines=False)


def legs(
    canvas: Canvas, color: Color, rng: random.Random, *, hips: tuple[float, float], shoulders: tuple[float, float],
    top: float, width: float, hoof: Color | None = None
) -> None:  # fmt: skip
    """Four legs, standing or in stride; the two far ones darker."""
    stride = rng.choice((0.0, 0.0, 0.12, 0.2))
    swing = rng.choice((-1, 1))
    for (far, near), sign in ((hips, 1), (shoulders, -1)):
        for x, shade, phase in ((far, 0.72, -swing), (near, 1.0, swing)):
            foot = x + sign * phase * stride
            knee = (x + foot) / 2 + 0.04 * sign
            canvas.stroke([(x, top), (knee, top / 2), (foot, -0.02)], width, tone(color, shade), relief=0.5, end=0.62)
            canvas.ellipse(foot + 0.01, -0.03, width * 0.42, 0.04, hoof or tone(color, shade * 0.8), relief=0.4)
