"""What grows: apple, mushroom, flower, tree."""

import math
import random

from demo.world.canvas import Canvas, Color, path
from demo.world.colors import WHITE, blend, tone

LEAF: Color = (0.26, 0.62, 0.24)
BARK: Color = (0.42, 0.28, 0.17)


def apple(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A whole apple with its stem and a leaf."""
    wide = rng.uniform(0.94, 1.06)
    outline = path("0,-.76 .22,-.86 .44,-.74 .48,-.44 .36,-.14 .16,0 0,-.04")
    points = [(x * wide, y) for x, y in outline] + [(-x * wide, y) for x, y in outline[-2:0:-1]]
    canvas.blob(points, color, relief=1.0, gloss=0.55)
    canvas.ellipse(0.0, -0.77, 0.13, 0.05, tone(color, 0.6), lines=False)
    bend = rng.uniform(-0.10, 0.10)
    canvas.stroke([(0, -0.76), (bend / 2, -0.88), (bend, -1.0)], 0.055, BARK, relief=0.4)
    side = rng.choice((-1, 1))
    leaf = [(bend / 2, -0.86), (0.12, -1.02), (0.34, -1.02), (0.28, -0.90), (0.12, -0.84)]
    canvas.blob([(bend / 2 + side * x if i else x, y) for i, (x, y) in enumerate(leaf)], LEAF, relief=0.6)


def mushroom(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A cap with pale dots on a thick stem."""
    stem = (0.95, 0.90, 0.80)
    dots = (0.98, 0.96, 0.92) if sum(color) < 2.4 else (0.80, 0.24, 0.20)
    canvas.blob(path("-.12,-.5 .12,-.5 .13,-.2 .18,0 -.18,0 -.13,-.2"), stem, relief=0.8)
    canvas.ellipse(0, -0.46, 0.40, 0.085, tone(stem, 0.72), relief=0.3)
    height = rng.uniform(0.92, 1.05)
    canvas.blob(
        [
            (-0.50, -0.46),
            (-0.42, -0.74),
            (-0.2, -0.92 * height),
            (0.0, -0.97 * height),
            (0.2, -0.92 * height),
            (0.42, -0.74),
            (0.50, -0.46),
            (0.24, -0.40),
            (0, -0.385),
            (-0.24, -0.40),
        ],
        color,
        relief=0.95,
        gloss=0.2,
    )
    for x, y, size in ((-0.27, -0.64, 0.075), (0.02, -0.80, 0.085), (0.28, -0.62, 0.07), (-0.04, -0.54, 0.06)):
        canvas.ellipse(x + rng.uniform(-0.03, 0.03), y, size, size * 0.8, dots, relief=0.3)


def flower(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """One large blossom on a stem with two leaves."""
    lean = rng.uniform(-0.10, 0.10)
    canvas.stroke([(0, 0), (lean / 2, -0.3), (lean, -0.66)], 0.055, LEAF, relief=0.5)
    for side, y in ((-1, -0.18), (1, -0.28)):
        canvas.blob(
            [(lean / 3, y), (side * 0.14, y - 0.13), (side * 0.33, y - 0.15), (side * 0.22, y - 0.02)], LEAF, relief=0.6
        )
    count, turn = rng.choice((6, 7, 8)), rng.uniform(0, math.pi)
    for step in range(count):
        angle = turn + 2 * math.pi * step / count
        x, y = lean + 0.22 * math.cos(angle), -0.72 + 0.22 * math.sin(angle)
        canvas.ellipse(x, y, 0.17, 0.105, tone(color, 1.0 if step % 2 else 0.88), tilt=angle, relief=0.6)
    middle = (0.45, 0.26, 0.12) if color[0] > 0.8 and color[1] > 0.6 else (0.98, 0.80, 0.18)
    canvas.ellipse(lean, -0.72, 0.115, 0.115, middle, relief=0.8)


def tree(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A trunk with a round crown of several balls of leaves."""
    lean = rng.uniform(-0.06, 0.06)
    canvas.blob(
        [(-0.055 + lean, -0.6), (0.055 + lean, -0.6), (0.06, -0.2), (0.12, 0.0), (-0.12, 0.0), (-0.06, -0.2)],
        BARK,
        relief=0.7,
    )
    canvas.stroke([(lean, -0.38), (0.16, -0.55)], 0.05, BARK, relief=0.5, end=0.6)
    balls = [(-0.24, -0.58, 0.20), (0.26, -0.60, 0.20), (-0.13, -0.80, 0.22), (0.16, -0.82, 0.21), (0.0, -0.62, 0.24)]
    for x, y, size in balls:
        size *= rng.uniform(0.9, 1.1)
        canvas.ellipse(x + lean, y, size * 1.05, size, tone(color, rng.uniform(0.88, 1.06)), relief=0.9)
    for _ in range(6):
        x, y = rng.uniform(-0.28, 0.28) + lean, rng.uniform(-0.9, -0.5)
        canvas.ellipse(x, y, 0.05, 0.035, blend(color, WHITE, 0.22), lines=False)
