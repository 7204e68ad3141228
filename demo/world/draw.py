"""A scene in, its picture out: place, shadow, thing, weather, and the look over all of it. Pure."""

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from demo.world import animals, cats, dogs, horses, people, plants, vehicles
from demo.world.air import lit, rain, veil
from demo.world.canvas import WHOLE, Canvas, Color, Frame
from demo.world.colors import NATURAL, mix
from demo.world.landscapes import Stand
from demo.world.looks import LOOK_PAINTERS
from demo.world.places import PLACE_PAINTERS
from demo.world.scene import Scene

Painter = Callable[[Canvas, Color, random.Random], None]

PAINTERS: dict[str, Painter] = {
    "cat": cats.cat, "dog": dogs.dog, "horse": horses.horse, "unicorn": horses.unicorn, "bird": animals.bird,
    "fish": animals.fish, "astronaut": people.astronaut, "robot": people.robot, "apple": plants.apple,
    "mushroom": plants.mushroom, "flower": plants.flower, "tree": plants.tree, "house": vehicles.house,
    "boat": vehicles.boat, "car": vehicles.car, "rocket": vehicles.rocket, "balloon": vehicles.balloon,
    "cup": vehicles.cup,
}  # fmt: skip
PORTRAITS: dict[str, Painter] = {"cat": cats.cat_portrait, "dog": dogs.dog_portrait}
WIDE = ("dog", "horse", "unicorn", "fish", "car", "boat", "house", "bird")  # these would not fit at full height
FLYING = ("bird", "balloon", "rocket")
SUPERSAMPLING = 2


def draw(scene: Scene, size: int) -> Image.Image:
    """The picture of ``scene``, RGB, ``size`` x ``size`` pixels. The same scene gives the same picture."""
    canvas = paint(scene, size)
    return LOOK_PAINTERS[scene.style](canvas, scene, size)


def paint(scene: Scene, size: int) -> Canvas:
    """The scene before any look, at twice the size."""
    rng = random.Random(scene.seed)
    canvas = Canvas(size * SUPERSAMPLING)
    stand = PLACE_PAINTERS[scene.place](canvas, scene, rng)
    veil(canvas, scene, stand.horizon)
    if scene.thing is not None:
        _put_thing(canvas, scene, scene.thing, stand, rng)
    rain(canvas, scene, rng)
    return canvas


def _put_thing(canvas: Canvas, scene: Scene, thing: str, stand: Stand, rng: random.Random) -> None:
    frame = _choose_frame(scene, thing, stand, rng)
    color = mix(scene.color or NATURAL[thing], rng)
    if not (stand.floats or scene.portrait or thing in FLYING):
        _shadow(canvas, frame, thing)
    canvas.frame, canvas.is_thing = frame, True
    (PORTRAITS if scene.portrait else PAINTERS)[thing](canvas, color, rng)
    if scene.rider:
        people.rider(canvas, mix("white", rng), rng)
    canvas.frame, canvas.is_thing = WHOLE, False
    _light_thing(canvas, scene)


def _choose_frame(scene: Scene, thing: str, stand: Stand, rng: random.Random) -> Frame:
    flip = rng.random() < 0.5
    if scene.portrait:
        return Frame(
            rng.uniform(0.40, 0.60), rng.uniform(0.98, 1.08), rng.uniform(0.88, 1.10), rng.uniform(-0.08, 0.08), flip
        )
    scale = rng.uniform(stand.small, stand.large)
    scale *= 0.80 if scene.rider else 0.88 if thing in WIDE else 1.0
    margin = min(0.45, (0.66 if thing in WIDE else 0.45) * scale)
    foot = rng.uniform(stand.top, stand.bottom)
    if thing in FLYING and scene.place not in ("table", "plain"):
        foot = rng.uniform(0.62, 0.84)
    tilt = rng.uniform(-0.30, 0.30) if stand.floats else rng.uniform(-0.05, 0.05)
    foot = max(foot, scale * (1.4 if scene.rider else 1.12) + 0.02)  # the head stays in the picture
    return Frame(rng.uniform(margin, 1 - margin), foot, scale, tilt, flip)


def _shadow(canvas: Canvas, frame: Frame, thing: str) -> None:
    wide = 0.50 if thing in WIDE else 0.32
    for share, alpha in ((1.25, 0.14), (1.0, 0.20), (0.75, 0.20)):
        size = wide * frame.scale * share
        canvas.ellipse(
            frame.x + 0.05 * frame.scale, frame.y, size, size * 0.20, (0.05, 0.05, 0.08), alpha=alpha, lines=False
        )


def _light_thing(canvas: Canvas, scene: Scene) -> None:
    """The hour's light on the thing, milder than on the place; in the dark, a rim of light that sets it off."""
    tint = np.asarray(lit((1.0, 1.0, 1.0), scene, share=0.5), np.float32)
    if scene.weather == "mist":
        canvas.color += (0.85 * tint - canvas.color) * (0.22 * canvas.thing[..., None])
    canvas.color *= 1 + (tint - 1) * canvas.thing[..., None]
    if scene.light == "night" or scene.place == "space":
        soft = Image.fromarray((canvas.thing * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(canvas.size / 50))
        rim = canvas.thing * (1 - np.asarray(soft, np.float32) / 255)
        canvas.gloss += 0.45 * rim
