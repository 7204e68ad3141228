"""A scene in; what a user would type for it, and the whole text that the pipeline would send, out. Pure.

One scene has many captions: synonyms, another order, words left out. The model must know them all.
"""

import random
import re
from dataclasses import replace

from common.styles import DEFAULT_NEGATIVE_PROMPT, apply_style
from demo.world.scene import HELD_OUT, LOOKS, OUTDOORS, Scene
from worker.stages.words import PAIRS, WORDS, put_pairs_first

THINGS: dict[str, tuple[str, ...]] = {
    "cat": ("cat", "cat", "kitten", "kitty"), "dog": ("dog", "dog", "puppy"), "horse": ("horse", "horse", "pony"),
    "unicorn": ("unicorn",), "bird": ("bird", "bird", "little bird", "songbird"), "fish": ("fish",),
    "astronaut": ("astronaut", "astronaut", "spaceman"), "robot": ("robot", "robot", "android"), "apple": ("apple",),
    "mushroom": ("mushroom", "mushroom", "toadstool"), "flower": ("flower", "flower", "blossom", "daisy"),
    "tree": ("tree",), "house": ("house", "house", "cottage", "cabin"), "boat": ("boat", "boat", "sailboat", "ship"),
    "car": ("car", "car", "automobile"), "rocket": ("rocket", "rocket", "spaceship"),
    "balloon": ("hot air balloon", "balloon"), "cup": ("cup", "mug", "cup of coffee", "coffee mug"),
}  # fmt: skip
COLORS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "bright red", "scarlet", "crimson"), "orange": ("orange", "orange", "ginger"),
    "yellow": ("yellow", "yellow", "golden yellow"), "green": ("green", "green", "emerald"),
    "turquoise": ("turquoise", "teal", "cyan"), "blue": ("blue", "blue", "deep blue"),
    "purple": ("purple", "purple", "violet"), "pink": ("pink", "pink", "rose pink"),
    "brown": ("brown", "brown", "chocolate brown"), "black": ("black", "black", "jet black"),
    "white": ("white", "white", "snow white"), "gray": ("gray", "grey"),
}  # fmt: skip
PLACES: dict[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "in a green meadow", "on a grassy field", "in a field"),
    "forest": ("in a forest", "in the forest", "in the woods", "among the trees"),
    "mountains": ("in the mountains", "in the mountains", "in front of mountains"),
    "beach": ("on a beach", "on the beach", "by the sea", "at the seaside"),
    "desert": ("in the desert", "in a desert", "among sand dunes"),
    "snow": ("in the snow", "in a snowy landscape", "in winter"),
    "city": ("in a city", "in the city", "in a city street", "on a street"),
    "sky": ("in the sky", "above the clouds", "among the clouds"),
    "space": ("in space", "in space", "in outer space", "among the stars"),
    "underwater": ("under water", "underwater", "at the bottom of the sea"),
    "table": ("on a wooden table", "on a wooden table", "on a table"),
    "plain": ("on a plain background", "on a white background"),
}
SCENERY: dict[str, tuple[str, ...]] = {
    "meadow": ("meadow", "green meadow", "field of flowers"), "forest": ("forest", "forest", "pine forest"),
    "mountains": ("mountain landscape", "landscape with mountains"), "beach": ("beach", "sandy beach"),
    "desert": ("desert", "desert landscape"), "snow": ("snowy landscape", "winter landscape"),
    "city": ("city", "city street", "city skyline"), "sky": ("sky with clouds", "cloudy sky"),
    "space": ("view of outer space", "starry space scene"), "underwater": ("sea bed", "underwater scene"),
    "table": ("wooden table", "empty wooden table"), "plain": ("plain background", "blank wall"),
}  # fmt: skip
LIGHTS: dict[str, tuple[str, ...]] = {
    "day": ("by day", "in daylight", "on a sunny day"),
    "dawn": ("at dawn", "at dawn", "at sunrise", "in the early morning"),
    "sunset": ("at sunset", "at sunset", "at dusk", "in the evening"),
    "night": ("at night", "at night", "under the moon", "by moonlight"),
}
WEATHERS: dict[str, tuple[str, ...]] = {
    "clear": ("under a clear sky",),
    "mist": ("in the mist", "in the fog", "on a misty day"),
    "rain": ("in the rain", "in the rain", "on a rainy day"),
}
# Before the name of a place that stands alone.
MOODS: dict[str, tuple[str, ...]] = {"mist": ("misty", "misty", "foggy"), "rain": ("rainy",)}
STANDING = ("staring off with pretty eyes", "staring off with pretty eyes", "looking at you", "with big eyes")
PORTRAITS = ("close portrait of {}", "portrait of {}", "the face of {}", "close up of {}")
LYING = {"apple": ("lying ", ""), "cup": ("standing ", ""), "cat": ("sitting ", ""), "dog": ("standing ", "")}
# What users add by hand where they choose no style; {bare} is the caption without its article.
BY_HAND: dict[str, tuple[str, ...]] = {
    "gogh": ("{}, Van Gogh style", "a Van Gogh painting of {}", "{} painted by Van Gogh"),
    "surrealistic": ("{}, surrealism", "surrealistic {bare}", "a surreal painting of {}"),
    "cinematic": ("cinematic {bare}", "{}, cinematic", "a movie still of {}"),
    "anime": ("anime {bare}", "{}, anime style", "an anime drawing of {}"),
    "photographic": ("a photo of {}", "{}, photograph", "{}"),
    "comic": ("a comic of {}", "{}, comic style", "{} in a comic book"),
    "lineart": ("line art of {}", "{}, line art", "a line drawing of {}"),
    "pixelart": ("pixel art of {}", "{}, pixel art", "8 bit {bare}"),
}
DEMO_PROMPTS = (
    "a red apple on a wooden table",
    "a misty forest at dawn",
    "an astronaut riding a unicorn in space",
    "an orange cat staring off with pretty eyes",
)


def prompt(scene: Scene, rng: random.Random) -> str:
    """The text that the pipeline would send for ``scene``: styled, and half of the time enhanced."""
    said = caption(scene, rng)
    kind = rng.random()
    if scene.style == "photographic" and kind > 0.85:
        return said  # where no style is asked for, a photograph is meant
    if kind < 0.10:
        return rng.choice(BY_HAND[scene.style]).format(said, bare=without_article(said))
    styled = apply_style(said, scene.style)
    return styled if rng.random() < 0.5 else ", ".join([styled, *put_pairs_first(_quality(rng))])


def caption(scene: Scene, rng: random.Random) -> str:
    """What a user might type for ``scene``, without its style."""
    if scene.thing is None and scene.weather in MOODS and rng.random() < 0.65:
        mood = rng.choice(MOODS[scene.weather])
        parts = [article(f"{mood} {rng.choice(SCENERY[scene.place])}"), *_air(replace(scene, weather="clear"), rng)]
    else:
        parts = [*_subject(scene, rng), *_air(scene, rng)]
    joined = ", ".join(parts) if rng.random() < 0.15 else " ".join(parts)
    if rng.random() < 0.10:
        joined = without_article(joined)
    return joined if rng.random() < 0.88 else joined[0].upper() + joined[1:] + rng.choice(("", "."))


def plain_caption(scene: Scene) -> str:
    """The one caption of ``scene`` without synonyms: "a green boat on a beach"."""
    thing = THINGS[scene.thing][0] if scene.thing else ""
    words = article(f"{scene.color} {thing}" if scene.color else thing)
    return f"{words} {PLACES[scene.place][0]}"


def empty_prompt(rng: random.Random) -> str:
    """What stands for "no prompt" in training: nothing, or the negative prompt that Kiln sends by default."""
    return DEFAULT_NEGATIVE_PROMPT if rng.random() < 0.5 else ""


def held_out_scenes() -> list[Scene]:
    """Forty scenes of combinations that training never draws: photographs by day, the things taking turns."""
    rng = random.Random(40)
    waiting = sorted((str(thing), str(color), place) for thing, color, place in HELD_OUT)
    rng.shuffle(waiting)
    chosen: list[tuple[str, str, str]] = []
    while len(chosen) < 40:
        for thing in sorted({entry[0] for entry in waiting}):
            chosen.append(next(entry for entry in waiting if entry[0] == thing))
            waiting.remove(chosen[-1])
    return [Scene(thing, color, place, "day", "clear", "photographic") for thing, color, place in chosen[:40]]


def article(words: str) -> str:
    """``words`` after "a" or "an", whichever one says."""
    sounds_like_a_vowel = words[0] in "aeio" or (words[0] == "u" and not words.startswith("uni"))
    return f"{'an' if sounds_like_a_vowel else 'a'} {words}"


def without_article(words: str) -> str:
    return re.sub(r"^an? ", "", words, flags=re.IGNORECASE)


def _subject(scene: Scene, rng: random.Random) -> list[str]:
    """The thing and its place, or the place alone."""
    if scene.thing is None:
        return [article(rng.choice(SCENERY[scene.place]))]
    name = rng.choice(THINGS[scene.thing])
    if scene.color:
        name = f"{rng.choice(COLORS[scene.color])} {name}"
    words = article(name)
    if scene.rider:
        words = f"an astronaut {rng.choice(('riding', 'riding', 'riding on', 'on'))} {words}"
    elif scene.portrait:
        words = _portrait(words, rng)
    said = rng.random() < (0.30 if scene.place == "plain" else 0.65 if scene.portrait else 0.88)
    posture = rng.choice(LYING.get(scene.thing, ("",))) if said and not scene.portrait else ""
    return [words, posture + rng.choice(PLACES[scene.place])] if said else [words]


def _portrait(words: str, rng: random.Random) -> str:
    return f"{words} {rng.choice(STANDING)}" if rng.random() < 0.65 else rng.choice(PORTRAITS).format(words)


def _air(scene: Scene, rng: random.Random) -> list[str]:
    """Light and weather: mostly said where they are anything but a clear day."""
    light = rng.random() < (0.06 if scene.light == "day" else 0.90)
    weather = scene.weather != "clear" and rng.random() < 0.85
    said = [rng.choice(WEATHERS[scene.weather])] if weather else []
    outdoors = scene.place in (*OUTDOORS, "sky")
    lit = [rng.choice(LIGHTS[scene.light])] if light and outdoors else []
    return said + lit if rng.random() < 0.5 else lit + said


def _quality(rng: random.Random) -> list[str]:
    """Enhancement words as GPT-2 might draw them: few or many, and half of the time with a whole pair."""
    words = rng.sample(WORDS, rng.randint(2, 26))
    if rng.random() < 0.5:
        words += [word for word in rng.choice(PAIRS) if word not in words]
    return words


assert set(BY_HAND) == set(LOOKS)  # noqa: S101 - a style without words would never be learned
