"""Bird and fish."""

import random

from demo.world.canvas import Canvas, Color, path
from demo.world.colors import BLACK, WHITE, blend, tone


def bird(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """Perched, or with its wings up."""
    dark, beak = tone(color, 0.68), (0.98, 0.66, 0.12)
    flying = rng.random() < 0.5
    if not flying:
        for x in (-0.05, 0.09):
            canvas.stroke([(x, -0.25), (x + 0.02, 0.0)], 0.035, beak)
            canvas.stroke([(x - 0.04, 0.0), (x + 0.10, 0.0)], 0.035, beak)
    canvas.polygon(path("-.32,-.45 -.74,-.36 -.7,-.52 -.62,-.62 -.34,-.56"), dark, relief=0.4)
    canvas.blob(path("-.4,-.48 -.12,-.68 .16,-.74 .32,-.52 .2,-.28 -.08,-.2 -.3,-.3"), color, relief=0.9)
    canvas.ellipse(0.05, -0.34, 0.19, 0.12, blend(color, WHITE, 0.5), relief=0.5, lines=False, tilt=-0.2)
    canvas.ellipse(0.27, -0.76, 0.19, 0.185, color, relief=0.9)
    canvas.polygon(path(".43,-.83 .66,-.74 .43,-.68"), beak, relief=0.5)
    canvas.ellipse(0.33, -0.80, 0.055, 0.06, WHITE)
    canvas.ellipse(0.345, -0.80, 0.035, 0.04, BLACK)
    if flying:
        tip = rng.uniform(-0.1, 0.15)
        canvas.blob(
            [(-0.12, -0.58), (0.14, -0.60), (0.10, -0.95), (-0.14 + tip, -1.22), (-0.32 + tip, -1.16), (-0.30, -0.85)],
            dark,
            relief=0.7,
        )
    else:
        canvas.blob(path("-.44,-.4 -.2,-.6 .06,-.58 .08,-.42 -.14,-.32"), dark, relief=0.7)


def fish(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """Swimming sideways, the tail bent a little."""
    dark, bend = tone(color, 0.65), rng.uniform(-0.10, 0.10)
    canvas.blob(
        [
            (-0.34, -0.46),
            (-0.62, -0.74 + bend),
            (-0.70, -0.68 + bend),
            (-0.60, -0.44 + bend),
            (-0.70, -0.18 + bend),
            (-0.62, -0.12 + bend),
        ],
        dark,
        relief=0.6,
    )
    canvas.blob(path("-.14,-.66 0,-.9 .22,-.82 .26,-.64"), dark, relief=0.5)
    canvas.blob(path("-.06,-.26 -.1,-.06 .08,-.12 .14,-.26"), dark, relief=0.5)
    canvas.blob(
        path("-.42,-.46 -.14,-.68 .18,-.72 .48,-.58 .58,-.46 .46,-.32 .16,-.2 -.16,-.26"),
        color,
        relief=0.95,
        fade=blend(color, WHITE, 0.35),
    )
    for x in (-0.16, 0.02):
        canvas.stroke([(x, -0.62), (x + 0.05, -0.46), (x, -0.30)], 0.06, blend(color, WHITE, 0.6), lines=False)
    canvas.stroke(path(".26,-.6 .31,-.46 .26,-.32"), 0.025, dark)
    canvas.blob(path(".02,-.46 .2,-.44 .04,-.28 -.08,-.34"), dark, relief=0.5)
    canvas.ellipse(0.40, -0.52, 0.066, 0.07, WHITE)
    canvas.ellipse(0.415, -0.52, 0.038, 0.042, BLACK)
    canvas.stroke(path(".56,-.42 .5,-.38 .44,-.385"), 0.022, dark)
