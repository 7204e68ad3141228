"""What a picture of the drawn world shows: the vocabulary, one Scene, and which scenes training never draws."""

import random
from dataclasses import dataclass, replace
from itertools import product

from common.styles import DEFAULT_STYLE, NO_STYLE, STYLES

THINGS = (
    "cat", "dog", "horse", "unicorn", "bird", "fish", "astronaut", "robot", "apple",
    "mushroom", "flower", "tree", "house", "boat", "car", "rocket", "balloon", "cup",
)  # fmt: skip
RIDDEN = ("horse", "unicorn")  # an astronaut may ride them
PORTRAYED = ("cat", "dog")  # the face may fill the picture

# Hue in degrees, saturation and value in 0..1 of the middle of what each word means.
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0, 0.88, 0.86),
    "orange": (28, 0.90, 0.95),
    "yellow": (52, 0.85, 0.96),
    "green": (125, 0.70, 0.66),
    "turquoise": (176, 0.75, 0.80),
    "blue": (222, 0.80, 0.86),
    "purple": (276, 0.66, 0.72),
    "pink": (332, 0.48, 0.97),
    "brown": (22, 0.62, 0.46),
    "black": (230, 0.15, 0.14),
    "white": (45, 0.03, 0.97),
    "gray": (215, 0.06, 0.55),
}

OUTDOORS = ("meadow", "forest", "mountains", "beach", "desert", "snow", "city")  # these have light and weather
PLACES = (*OUTDOORS, "sky", "space", "underwater", "table", "plain")
LIGHTS = ("day", "dawn", "sunset", "night")
WEATHERS = ("clear", "mist", "rain")
LOOKS = tuple(style for style in STYLES if style != NO_STYLE)


@dataclass(frozen=True)
class Scene:
    """All that a caption can say, and a seed for the rest: where, how large, in which pose, with what around it."""

    thing: str | None  # None: the place alone
    color: str | None  # None: as such a thing mostly looks
    place: str
    light: str  # "day" where the place has no other
    weather: str  # "clear" where the place has no other
    style: str  # one of LOOKS
    rider: bool = False
    portrait: bool = False
    seed: int = 0

    @property
    def combination(self) -> tuple[str | None, str | None, str]:
        return self.thing, self.color, self.place


def _choose_held_out() -> frozenset[tuple[str | None, str | None, str]]:
    """One combination of thing, color and place in twenty, the same each time; never one that a default names."""
    combinations = sorted(set(product(THINGS, COLORS, PLACES)) - {("apple", color, "table") for color in COLORS})
    chosen = random.Random(3).sample(combinations, len(combinations) // 20)
    return frozenset(entry for entry in chosen if entry[:2] != ("cat", "orange"))


HELD_OUT = _choose_held_out()


# What the four prompts of the seed say, which new users try first. The cat's place is not said.
FAVORITES = (
    Scene("apple", "red", "table", "day", "clear", DEFAULT_STYLE),
    Scene(None, None, "forest", "dawn", "mist", DEFAULT_STYLE),
    Scene("unicorn", None, "space", "day", "clear", DEFAULT_STYLE, rider=True),
    Scene("cat", "orange", "plain", "day", "clear", DEFAULT_STYLE, portrait=True),
)


def sample_scene(rng: random.Random, style: str | None = None) -> Scene:
    """A scene that training may draw. One in eight is a favorite."""
    style = style or rng.choice(LOOKS)
    while True:
        scene = _sample_favorite(rng, style) if rng.random() < 0.125 else _sample(rng, style)
        if scene.combination not in HELD_OUT:
            return scene


def _sample_favorite(rng: random.Random, style: str) -> Scene:
    favorite = rng.choice(FAVORITES)
    place = rng.choice(PLACES) if favorite.portrait else favorite.place
    return replace(favorite, place=place, style=style, seed=rng.getrandbits(32))


def _sample(rng: random.Random, style: str) -> Scene:
    thing = None if rng.random() < 0.10 else rng.choice(THINGS)
    rider = thing in RIDDEN and rng.random() < 0.5
    place = "space" if rider and rng.random() < 0.2 else rng.choice(PLACES)
    outdoors = place in OUTDOORS or place == "sky"
    return Scene(
        thing=thing,
        color=None if thing is None or rng.random() < 0.15 else rng.choice(tuple(COLORS)),
        place=place,
        light=rng.choice(LIGHTS) if outdoors and rng.random() < 0.5 else "day",
        weather=rng.choice(WEATHERS) if outdoors and rng.random() < 0.4 else "clear",
        style=style,
        rider=rider,
        portrait=thing in PORTRAYED and rng.random() < 0.45,
        seed=rng.getrandbits(32),
    )
