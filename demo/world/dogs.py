"""The dog: standing, or only its face."""

import random

from demo.world.canvas import Canvas, Color, path
from demo.world.colors import BLACK, WHITE, blend, tone
from demo.world.horses import legs


def dog(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """Standing sideways, with hanging ears and a wagging tail."""
    dark = tone(color, 0.6)
    wag = rng.uniform(-0.25, 0.2)
    canvas.stroke([(-0.42, -0.55), (-0.58, -0.68), (-0.66, -0.88 + wag)], 0.09, color, relief=0.6, end=0.5)
    legs(canvas, color, rng, hips=(-0.34, -0.22), shoulders=(0.20, 0.32), top=-0.36, width=0.12)
    canvas.blob(path("-.46,-.6 0,-.62 .34,-.66 .42,-.42 .2,-.27 -.3,-.27 -.5,-.4"), color, relief=0.9)
    canvas.ellipse(0.46, -0.78, 0.23, 0.21, color, relief=0.9)
    canvas.blob(path(".52,-.82 .78,-.78 .84,-.7 .76,-.6 .52,-.6"), blend(color, WHITE, 0.4), relief=0.7)
    canvas.ellipse(0.82, -0.75, 0.06, 0.05, BLACK, gloss=0.6)
    canvas.blob(path(".3,-.96 .42,-.92 .38,-.66 .28,-.52 .2,-.64 .22,-.86"), dark, relief=0.7)
    canvas.ellipse(0.55, -0.84, 0.055, 0.065, WHITE)
    canvas.ellipse(0.565, -0.835, 0.036, 0.045, BLACK)
    canvas.polygon(path(".24,-.6 .44,-.56 .43,-.5 .23,-.54"), (0.85, 0.15, 0.15), relief=0.4)


def dog_portrait(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """The face fills the picture: hanging ears, a pale snout, perhaps the tongue out."""
    canvas.blob(path("-.26,-.35 .26,-.35 .48,.05 .48,.4 -.48,.4 -.48,.05"), color, relief=0.7)
    with canvas.moved(rng.uniform(-0.05, 0.05), 0.0, 1.0):
        _face(canvas, color, rng)


def _face(canvas: Canvas, color: Color, rng: random.Random) -> None:
    dark, pale = tone(color, 0.55), blend(color, WHITE, 0.55)
    gaze = rng.uniform(-0.02, 0.02)
    canvas.blob(path("0,-.96 .32,-.86 .4,-.52 .24,-.18 0,-.1 -.24,-.18 -.4,-.52 -.32,-.86"), color, relief=0.9)
    for side in (-1, 1):
        ear = path(".22,-.92 .42,-.88 .56,-.55 .5,-.26 .38,-.3 .34,-.62")
        canvas.blob([(side * x, y) for x, y in ear], dark, relief=0.8)
        canvas.ellipse(side * 0.16, -0.62, 0.085, 0.09, WHITE)
        canvas.ellipse(side * 0.16 + gaze, -0.615, 0.06, 0.068, (0.25, 0.14, 0.08))
        canvas.ellipse(side * 0.16 + gaze - 0.02, -0.64, 0.022, 0.022, WHITE, lines=False)
    if rng.random() < 0.6:
        canvas.blob(path("-.07,-.2 .07,-.2 .06,-.04 0,0 -.06,-.04"), (0.93, 0.40, 0.46), relief=0.5)
    canvas.blob(path("0,-.56 .17,-.42 .18,-.24 0,-.16 -.18,-.24 -.17,-.42"), pale, relief=0.8)
    canvas.ellipse(0, -0.44, 0.10, 0.075, BLACK, gloss=0.6)
    canvas.stroke([(0, -0.37), (0, -0.28)], 0.022, BLACK)
    canvas.stroke(path("-.12,-.26 0,-.23 .12,-.26"), 0.022, BLACK)
