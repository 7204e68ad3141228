"""The cat: sitting, or only its face. Each painter takes a canvas whose frame is set, a color, and a generator."""

import random

from demo.world.canvas import Canvas, Color, path
from demo.world.colors import BLACK, WHITE, blend, tone

PINK: Color = (0.96, 0.62, 0.66)
IRISES: tuple[Color, ...] = ((0.95, 0.78, 0.15), (0.45, 0.78, 0.25), (0.25, 0.62, 0.90), (0.92, 0.55, 0.12))


def cat(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """Sitting, its tail to one side, its head a little turned."""
    dark, pale = tone(color, 0.62), blend(color, WHITE, 0.55)
    reach = rng.uniform(0.30, 0.46)
    lift = rng.uniform(-0.55, -0.15)
    canvas.stroke(
        [(0.18, -0.06), (reach, -0.08), (reach + 0.07, lift / 2), (reach - 0.02, lift)], 0.10, color, relief=0.7
    )
    canvas.blob(path("-.16,-.62 .16,-.62 .27,-.25 .26,0 -.26,0 -.27,-.25"), color, relief=0.8)
    canvas.ellipse(0, -0.33, 0.12, 0.20, pale, relief=0.4, lines=False)
    for side in (-1, 1):
        canvas.ellipse(side * 0.11, -0.03, 0.09, 0.055, pale, relief=0.6)
        canvas.stroke(
            [(side * 0.20, -0.42), (side * 0.23, -0.30), (side * 0.22, -0.2)], 0.035, dark, lines=False, end=0.4
        )
    with canvas.moved(rng.uniform(-0.07, 0.07), -0.74, 0.27):
        _head(canvas, color, rng)


def cat_portrait(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """The face fills the picture, over its shoulders."""
    pale = blend(color, WHITE, 0.55)
    canvas.blob(path("-.3,-.42 .3,-.42 .52,.05 .5,.4 -.5,.4 -.52,.05"), color, relief=0.7)
    canvas.blob(path("-.14,-.3 .14,-.3 .2,.1 0,.3 -.2,.1"), pale, relief=0.4, lines=False)
    with canvas.moved(rng.uniform(-0.08, 0.08), -0.52, 0.46):
        _head(canvas, color, rng)


def _head(canvas: Canvas, color: Color, rng: random.Random) -> None:
    """A cat's head of radius 1 around (0, 0)."""
    dark, pale = tone(color, 0.6), blend(color, WHITE, 0.6)
    for side in (-1, 1):
        canvas.polygon([(side * 0.92, -0.25), (side * 0.80, -1.22), (side * 0.22, -0.72)], color, relief=0.6)
        canvas.polygon([(side * 0.80, -0.42), (side * 0.73, -1.00), (side * 0.38, -0.70)], PINK, lines=False)
    face = path("0,-.82 .62,-.68 .98,-.12 .8,.48 .34,.78 0,.84 -.34,.78 -.8,.48 -.98,-.12 -.62,-.68")
    canvas.blob(face, color, relief=0.9)
    for middle in (-0.22, 0.0, 0.22):
        canvas.stroke([(middle, -0.82), (middle * 0.8, -0.46)], 0.11, dark, end=0.3, lines=False)
    for side in (-1, 1):
        for row in (0.10, 0.30):
            canvas.stroke([(side * 0.95, row - 0.04), (side * 0.62, row)], 0.09, dark, end=0.3, lines=False)
    _eyes(canvas, rng.uniform(-1, 1), rng.choice(IRISES))
    for side in (-1, 1):
        canvas.ellipse(side * 0.19, 0.40, 0.25, 0.19, pale, relief=0.5, lines=False)
    canvas.polygon(path("-.12,.2 .12,.2 0,.34"), PINK)
    canvas.stroke([(0, 0.32), (0, 0.45)], 0.035, BLACK)
    for side in (-1, 1):
        canvas.stroke([(0, 0.45), (side * 0.13, 0.54), (side * 0.24, 0.48)], 0.035, BLACK)
        for slope in (-0.06, 0.08):
            whisker = [(side * 0.34, 0.38 + slope), (side * 1.16, 0.32 + 2.5 * slope)]
            canvas.stroke(whisker, 0.022, WHITE, end=0.5, lines=False)


def _eyes(canvas: Canvas, gaze: float, iris: Color) -> None:
    for x in (-0.43, 0.43):
        canvas.ellipse(x, -0.08, 0.285, 0.275, BLACK)
        canvas.ellipse(x, -0.08, 0.245, 0.235, iris, relief=0.5, fade=tone(iris, 1.35))
        canvas.ellipse(x + 0.07 * gaze, -0.08, 0.095, 0.20, BLACK)
        canvas.ellipse(x + 0.07 * gaze - 0.07, -0.18, 0.065, 0.065, WHITE, lines=False)
