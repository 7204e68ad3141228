"""What people make: house, boat, car, rocket, balloon, cup."""

import math
import random

from demo.world.canvas import Canvas, Color, path
from demo.world.colors import WHITE, blend, tone
from demo.world.plants import BARK

GLASS: Color = (0.62, 0.82, 0.94)
LIT: Color = (0.99, 0.86, 0.42)
DARK: Color = (0.15, 0.15, 0.18)


def house(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """Walls, a pitched roof with a chimney, a door and two windows."""
    roof = rng.choice(((0.66, 0.22, 0.16), (0.42, 0.26, 0.18), (0.30, 0.33, 0.42)))
    glass = rng.choice((GLASS, LIT))
    side = rng.choice((-1, 1))
    canvas.polygon(
        [(side * 0.22, -0.98), (side * 0.34, -0.98), (side * 0.34, -0.6), (side * 0.22, -0.6)],
        (0.55, 0.30, 0.24),
        relief=0.4,
    )
    canvas.polygon(path("-.46,-.54 .46,-.54 .46,0 -.46,0"), color, relief=0.35, fade=tone(color, 0.86))
    canvas.polygon(path("-.58,-.5 -.3,-.94 .3,-.94 .58,-.5"), roof, relief=0.5, fade=tone(roof, 0.8))
    canvas.polygon(path("-.1,-.34 .1,-.34 .1,0 -.1,0"), BARK, relief=0.4)
    canvas.ellipse(0.06, -0.16, 0.016, 0.016, (0.95, 0.82, 0.3), lines=False)
    for x in (-0.29, 0.29):
        canvas.polygon(
            [(x - 0.115, -0.41), (x + 0.115, -0.41), (x + 0.115, -0.17), (x - 0.115, -0.17)], tone(BARK, 0.8)
        )
        canvas.polygon(
            [(x - 0.09, -0.385), (x + 0.09, -0.385), (x + 0.09, -0.195), (x - 0.09, -0.195)],
            glass,
            fade=tone(glass, 0.85),
        )
        canvas.stroke([(x, -0.385), (x, -0.195)], 0.025, tone(BARK, 0.8), lines=False)
        canvas.stroke([(x - 0.09, -0.29), (x + 0.09, -0.29)], 0.025, tone(BARK, 0.8), lines=False)


def boat(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A sailing boat: the hull has the color, two pale sails."""
    sail = rng.choice((WHITE, (0.98, 0.93, 0.82)))
    belly = rng.uniform(0.04, 0.12)
    canvas.stroke([(0.0, -0.2), (0.0, -1.0)], 0.04, BARK)
    canvas.blob(
        [(0.04, -0.95), (0.22 + belly, -0.62), (0.44 + belly, -0.30), (0.20, -0.27), (0.04, -0.28), (0.04, -0.6)],
        sail,
        relief=0.6,
    )
    canvas.blob(
        [(-0.04, -0.88), (-0.20 - belly, -0.56), (-0.34 - belly, -0.31), (-0.04, -0.29), (-0.05, -0.6)],
        tone(sail, 0.9),
        relief=0.6,
    )
    canvas.polygon(path("0,-1 .16,-.965 0,-.93"), (0.85, 0.2, 0.18))
    canvas.blob(
        path("-.52,-.24 -.2,-.22 .2,-.22 .56,-.26 .4,-.02 .2,.02 -.2,.02 -.38,-.02"),
        color,
        relief=0.7,
        fade=tone(color, 0.7),
    )
    canvas.stroke(path("-.5,-.215 0,-.195 .54,-.235"), 0.035, blend(color, WHITE, 0.5), lines=False)


def car(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """Seen from the side: cabin, body, two wheels."""
    roof = rng.uniform(-0.60, -0.52)
    canvas.blob([(-0.38, -0.34), (-0.26, roof), (0.16, roof), (0.34, -0.34)], color, relief=0.6)
    canvas.polygon(
        [(-0.29, -0.35), (-0.20, roof + 0.07), (-0.02, roof + 0.07), (-0.02, -0.35)], GLASS, fade=tone(GLASS, 1.4)
    )
    canvas.polygon(
        [(0.02, -0.35), (0.02, roof + 0.07), (0.13, roof + 0.07), (0.26, -0.35)], GLASS, fade=tone(GLASS, 1.4)
    )
    canvas.blob(
        path("-.58,-.34 -.3,-.37 .3,-.37 .56,-.31 .6,-.16 .54,-.09 -.56,-.09 -.61,-.2"),
        color,
        relief=0.8,
        fade=tone(color, 0.8),
    )
    canvas.ellipse(0.55, -0.25, 0.04, 0.05, (0.99, 0.93, 0.60))
    canvas.ellipse(-0.57, -0.26, 0.03, 0.045, (0.85, 0.15, 0.12))
    canvas.stroke([(-0.02, -0.33), (-0.02, -0.13)], 0.016, tone(color, 0.6), lines=False)
    for x in (-0.34, 0.33):
        canvas.ellipse(x, -0.11, 0.135, 0.135, DARK, relief=0.4)
        canvas.ellipse(x, -0.11, 0.07, 0.07, (0.75, 0.77, 0.80), relief=0.5)


def rocket(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A pointed hull with fins, a round window, and a flame when it flies."""
    trim = (0.86, 0.20, 0.18) if color[0] < 0.7 or color[1] > 0.5 else (0.28, 0.42, 0.80)
    if rng.random() < 0.7:
        long = rng.uniform(0.10, 0.26)
        canvas.blob([(-0.13, -0.10), (0.13, -0.10), (0.09, 0.06), (0.0, long), (-0.09, 0.06)], (0.98, 0.56, 0.10))
        canvas.blob([(-0.07, -0.10), (0.07, -0.10), (0.0, long * 0.55)], (1.0, 0.92, 0.45), lines=False)
    for side in (-1, 1):
        canvas.blob(
            [(side * 0.14, -0.42), (side * 0.36, -0.16), (side * 0.36, 0.02), (side * 0.14, -0.10)], trim, relief=0.6
        )
    canvas.blob(path("0,-1.06 .13,-.82 .19,-.5 .16,-.1 -.16,-.1 -.19,-.5 -.13,-.82"), color, relief=0.95)
    canvas.blob(path("0,-1.07 .075,-.94 .115,-.83 0,-.8 -.115,-.83 -.075,-.94"), trim, relief=0.8)
    canvas.ellipse(0, -0.60, 0.10, 0.10, tone(color, 0.5), relief=0.5)
    canvas.ellipse(0, -0.60, 0.072, 0.072, GLASS, fade=tone(GLASS, 0.7))
    canvas.stroke([(-0.165, -0.26), (0.165, -0.26)], 0.05, trim, lines=False)


def balloon(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A hot-air balloon with gores of two tones and a basket."""
    pale = blend(color, WHITE, 0.38) if sum(color) < 2.6 else tone(color, 0.8)
    canvas.blob(
        path("-.1,-.26 -.34,-.56 -.4,-.78 -.28,-1.02 0,-1.12 .28,-1.02 .4,-.78 .34,-.56 .1,-.26"),
        color,
        relief=1.0,
        gloss=0.15,
    )
    turn = rng.uniform(-0.05, 0.05)
    for middle in (-0.23, 0.0, 0.23):
        x = middle + turn
        wide = 0.065 * math.cos(x * 3)
        canvas.blob(
            [
                (x * 0.35, -1.08),
                (x + wide, -0.84),
                (x * 0.9 + wide, -0.6),
                (x * 0.35, -0.28),
                (x * 0.9 - wide, -0.6),
                (x - wide, -0.84),
            ],
            pale,
            relief=0.5,
            alpha=0.8,
        )
    for x in (-0.075, 0.075):
        canvas.stroke([(x * 1.1, -0.27), (x, -0.14)], 0.016, DARK)
    canvas.polygon(path("-.1,-.15 .1,-.15 .08,0 -.08,0"), (0.62, 0.40, 0.20), relief=0.5)
    canvas.stroke([(-0.10, -0.14), (0.10, -0.14)], 0.03, (0.42, 0.26, 0.13), lines=False)


def cup(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A mug with a handle, sometimes steaming."""
    canvas.stroke(path(".26,-.62 .52,-.6 .54,-.3 .25,-.2"), 0.085, color, relief=0.6)
    canvas.blob(
        path("-.32,-.76 .32,-.76 .32,-.4 .28,-.04 .2,.02 -.2,.02 -.28,-.04 -.32,-.4"), color, relief=0.85, gloss=0.25
    )
    canvas.ellipse(0, -0.76, 0.33, 0.10, tone(color, 1.15), relief=0.2)
    canvas.ellipse(0, -0.75, 0.28, 0.075, (0.30, 0.17, 0.09), fade=(0.40, 0.24, 0.13))
    if rng.random() < 0.6:
        for x in (-0.12, 0.06):
            bend = rng.uniform(0.04, 0.09)
            canvas.stroke(
                [(x, -0.84), (x + bend, -0.95), (x - bend / 2, -1.06), (x + bend, -1.18)],
                0.05,
                WHITE,
                end=0.3,
                alpha=0.55,
            )
