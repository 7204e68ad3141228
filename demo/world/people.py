"""The astronaut, on foot or riding, and the robot."""

import random

from demo.world.canvas import Canvas, Color, path
from demo.world.colors import BLACK, WHITE, blend, tone

VISOR: Color = (0.10, 0.14, 0.30)


def astronaut(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """Standing, one arm perhaps waving."""
    pale = blend(color, WHITE, 0.25)
    canvas.blob(path("-.22,-.68 .22,-.68 .25,-.3 -.25,-.3"), tone(color, 0.6), relief=0.5)
    spread = rng.uniform(0.08, 0.16)
    for side in (-1, 1):
        canvas.stroke(
            [(side * 0.09, -0.34), (side * spread, -0.2), (side * (spread + 0.02), -0.06)],
            0.16,
            color,
            relief=0.7,
            end=0.9,
        )
        canvas.blob(
            [
                (side * (spread - 0.07), -0.08),
                (side * (spread + 0.09), -0.09),
                (side * (spread + 0.15), 0.0),
                (side * (spread - 0.08), 0.0),
            ],
            tone(color, 0.6),
            relief=0.5,
        )
    waving = rng.choice((-1, 1, 0))
    for side in (-1, 1):
        hand = (0.40, -0.86 - rng.uniform(0, 0.08)) if side == waving else (0.33 + rng.uniform(-0.04, 0.06), -0.32)
        canvas.stroke(
            [(side * 0.17, -0.60), (side * 0.31, (hand[1] - 0.50) / 2), (side * hand[0], hand[1])],
            0.13,
            color,
            relief=0.7,
            end=0.85,
        )
        canvas.ellipse(side * hand[0], hand[1], 0.065, 0.065, tone(color, 0.6), relief=0.6)
    canvas.blob(path("-.19,-.66 .19,-.66 .21,-.42 .17,-.26 -.17,-.26 -.21,-.42"), pale, relief=0.7)
    canvas.polygon(path("-.1,-.52 .1,-.52 .1,-.38 -.1,-.38"), (0.80, 0.16, 0.14), relief=0.3)
    canvas.ellipse(-0.04, -0.45, 0.025, 0.025, (0.98, 0.85, 0.2), lines=False)
    _helmet(canvas, color, x=0.0, y=-0.80, size=0.215)


def rider(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """An astronaut sitting on a back at y = -0.62, facing to the right."""
    reach = rng.uniform(0.20, 0.32)
    wave = rng.random() < 0.4
    canvas.blob(path("-.26,-.98 -.1,-1 -.08,-.72 -.24,-.7"), tone(color, 0.55), relief=0.5)
    canvas.blob(path("-.16,-1.02 .08,-1.02 .12,-.78 .08,-.58 -.18,-.58 -.19,-.78"), color, relief=0.7)
    canvas.stroke(path("-.04,-.62 .15,-.54 .12,-.28"), 0.13, color, relief=0.7, end=0.85)
    canvas.blob(path(".06,-.3 .18,-.3 .25,-.2 .06,-.2"), tone(color, 0.55), relief=0.5)
    hand = (0.24, -1.22) if wave else (reach, -0.74)
    canvas.stroke([(-0.03, -0.94), (0.12, (hand[1] - 0.86) / 2), hand], 0.10, color, relief=0.7, end=0.85)
    canvas.ellipse(*hand, 0.055, 0.055, tone(color, 0.6), relief=0.6)
    _helmet(canvas, color, x=-0.01, y=-1.17, size=0.18)


def _helmet(canvas: Canvas, color: Color, *, x: float, y: float, size: float) -> None:
    canvas.ellipse(x, y, size, size, color, relief=0.9)
    canvas.ellipse(x + 0.15 * size, y + 0.04 * size, 0.74 * size, 0.62 * size, (0.85, 0.62, 0.20), relief=0.3)
    canvas.ellipse(x + 0.15 * size, y + 0.04 * size, 0.64 * size, 0.52 * size, VISOR, fade=(0.16, 0.26, 0.50))
    canvas.ellipse(
        x - 0.08 * size, y - 0.16 * size, 0.20 * size, 0.10 * size, (0.75, 0.86, 1.0), tilt=-0.5, lines=False
    )


def robot(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A box on legs with a box for a head, lit eyes and an antenna."""
    dark, pale = tone(color, 0.55), tone(color, 1.25)
    glow = rng.choice(((0.30, 0.95, 0.95), (0.98, 0.85, 0.20), (0.98, 0.35, 0.25)))
    for side in (-1, 1):
        canvas.polygon(
            [(side * 0.06, -0.32), (side * 0.15, -0.32), (side * 0.15, -0.06), (side * 0.06, -0.06)], dark, relief=0.5
        )
        canvas.blob(
            [(side * 0.03, -0.08), (side * 0.17, -0.10), (side * 0.22, 0.0), (side * 0.02, 0.0)], color, relief=0.5
        )
        lift = rng.choice((-0.80, -0.30, -0.34))
        canvas.stroke(
            [(side * 0.22, -0.58), (side * 0.34, (lift - 0.50) / 2), (side * 0.37, lift)], 0.075, dark, relief=0.6
        )
        canvas.ellipse(side * 0.37, lift, 0.065, 0.065, color, relief=0.7)
    canvas.polygon(path("-.22,-.64 .22,-.64 .2,-.28 -.2,-.28"), color, relief=0.6)
    canvas.polygon(path("-.13,-.57 .13,-.57 .13,-.42 -.13,-.42"), (0.16, 0.20, 0.28), relief=0.2)
    for x, light in ((-0.07, (0.95, 0.30, 0.25)), (0.0, (0.98, 0.80, 0.2)), (0.07, (0.30, 0.85, 0.40))):
        canvas.ellipse(x, -0.495, 0.026, 0.026, light, lines=False)
    canvas.stroke([(0, -0.90), (0.0, -1.02)], 0.03, dark)
    canvas.ellipse(0, -1.04, 0.045, 0.045, glow, relief=0.4)
    canvas.polygon(path("-.06,-.68 .06,-.68 .06,-.62 -.06,-.62"), dark)
    turn = rng.uniform(-0.03, 0.03)
    canvas.polygon(path("-.22,-.94 .22,-.94 .24,-.67 -.24,-.67"), pale, relief=0.6)
    for side in (-1, 1):
        canvas.ellipse(turn + side * 0.10, -0.83, 0.07, 0.07, BLACK)
        canvas.ellipse(turn + side * 0.10, -0.83, 0.05, 0.05, glow, lines=False)
    canvas.polygon([(turn - 0.09, -0.73), (turn + 0.09, -0.73), (turn + 0.09, -0.705), (turn - 0.09, -0.705)], BLACK)
