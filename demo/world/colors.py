"""A color word in, red, green and blue out; and what may be done to a color. Pure."""

import colorsys
import random

from demo.world.canvas import Color
from demo.world.scene import COLORS

BLACK: Color = (0.07, 0.06, 0.08)
WHITE: Color = (0.98, 0.98, 0.97)

# The color of a thing whose caption names none.
NATURAL = {
    "cat": "orange", "dog": "brown", "horse": "brown", "unicorn": "white", "bird": "blue", "fish": "orange",
    "astronaut": "white", "robot": "gray", "apple": "red", "mushroom": "red", "flower": "yellow", "tree": "green",
    "house": "white", "boat": "white", "car": "red", "rocket": "white", "balloon": "red", "cup": "white",
}  # fmt: skip


def mix(color: str, rng: random.Random) -> Color:
    """What ``color`` means this time: a little off its middle, never so far that it gets another name."""
    hue, saturation, value = COLORS[color]
    return colorsys.hsv_to_rgb(
        (hue + rng.uniform(-5, 5)) / 360 % 1,
        min(1.0, max(0.0, saturation * rng.uniform(0.93, 1.07))),
        min(1.0, max(0.0, value * rng.uniform(0.94, 1.05))),
    )


def tone(color: Color, share: float) -> Color:
    """Darker below 1 (0 is black), lighter above (2 is white)."""
    if share <= 1:
        return (color[0] * share, color[1] * share, color[2] * share)
    return blend(color, (1.0, 1.0, 1.0), share - 1)


def blend(one: Color, other: Color, share: float) -> Color:
    """``share`` 0 is ``one``, 1 is ``other``."""
    r, g, b = (a + (c - a) * share for a, c in zip(one, other, strict=True))
    return (r, g, b)
