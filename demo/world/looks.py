"""The eight styles: a canvas in, the finished picture out. All of them paint the same scene, none alike."""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter

from demo.world.canvas import Canvas, Floats
from demo.world.scene import Scene

INK = np.float32(0.06)


def photographic(canvas: Canvas, scene: Scene, size: int) -> Image.Image:
    """Shaded, the background a little out of focus, the corners darker, a trace of grain."""
    picture = _defocus(_shaded(canvas), canvas, size / 110)
    small = _reduce(picture, size) * _vignette(size, 0.22)[..., None]
    grain = np.random.default_rng(scene.seed).normal(0, 0.006, (size, size, 1))
    return _image(small + grain.astype(np.float32))


def cinematic(canvas: Canvas, scene: Scene, size: int) -> Image.Image:
    """Graded to teal shadows and warm lights, contrast, deep corners, and the black bars of a wide screen."""
    small = _reduce(_defocus(_shaded(canvas), canvas, size / 70), size)
    luma = _luma(small)[..., None]
    small = small * 0.88 + luma * 0.12
    small = small + (1 - luma) * _rgb(-0.05, 0.01, 0.045) + luma * _rgb(0.06, 0.015, -0.06)
    small = (small - 0.5) * 1.12 + 0.46
    small *= _vignette(size, 0.5)[..., None]
    bar = size // 8
    small[:bar] = small[-bar:] = 0.0
    return _image(small)


def anime(canvas: Canvas, scene: Scene, size: int) -> Image.Image:
    """Flat vivid color in two tones, with clean dark outlines."""
    tones = np.where(canvas.light > 0.93, np.float32(1.04), np.float32(0.74))
    picture = _saturate(canvas.color, 1.35) * tones[..., None] + (canvas.gloss > 0.25)[..., None] * np.float32(0.5)
    return _image(_ink(_reduce(np.clip(picture * 1.06, 0, 1), size), _outline(canvas, size, 1.6)))


def lineart(canvas: Canvas, scene: Scene, size: int) -> Image.Image:
    """Black lines on white, nothing else."""
    return _image(_ink(np.ones((size, size, 3), np.float32), _outline(canvas, size, 1.7)))


def gogh(canvas: Canvas, scene: Scene, size: int) -> Image.Image:
    """Long thick strokes that swirl in the background and follow the shape of the thing."""
    rng = np.random.default_rng(scene.seed)
    picture = _reduce(_saturate(_shaded(canvas), 1.3), size)
    inside = _reduce(canvas.thing[..., None], size)
    flow = _flow(inside[..., 0], size, rng)
    cells = max(2, size // 36)
    noise = rng.normal(0, 1, (size // cells + 2, size // cells + 2)).astype(np.float32)
    strokes = np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC), np.float32)
    stack = np.concatenate([picture, strokes[..., None]], axis=2)
    smeared = _smear(stack, flow, size)
    paint = smeared[..., 3:] / (smeared[..., 3:].std() + 1e-6)
    clear = 0.25 + 0.40 * inside  # the thing is smeared less than what is around it
    tinted = (smeared[..., :3] * (1 - clear) + picture * clear) * (1 + 0.15 * paint)
    tinted = tinted + _rgb(0.020, 0.014, -0.030) * paint
    return _image(_saturate(tinted, 1.1))


def pixelart(canvas: Canvas, scene: Scene, size: int) -> Image.Image:
    """32 blocks a side in few colors, the thing with a dark border."""
    blocks = 32
    picture = _reduce(_saturate(_shaded(canvas), 1.2), blocks)
    inside = _reduce(canvas.thing[..., None], blocks)[..., 0] > 0.5
    border = maximum_filter(inside, size=(3, 3)) & ~inside
    picture[border] *= 0.45
    limited: Floats = np.round(np.clip(picture, 0, 1) * 7) / 7
    return _image(limited).resize((size, size), Image.Resampling.NEAREST)


def comic(canvas: Canvas, scene: Scene, size: int) -> Image.Image:
    """Ink outlines, few bright colors, and halftone dots where it is dark. The dots stand on a grid of size / 16."""
    picture = _reduce(_saturate(canvas.color, 1.45), size)
    flat: Floats = np.round(np.clip(picture * 1.08, 0, 1) * 4) / 4
    shade = np.clip(1.08 - _reduce(canvas.light[..., None], size)[..., 0], 0, 1) * 1.3
    dusk = np.clip(0.55 - _luma(picture), 0, 1) * 0.45 + 0.05
    pitch = size / 16
    rows, columns = np.mgrid[0:size, 0:size] + 0.5
    near = [np.hypot((rows + s) % pitch - pitch / 2, (columns + s) % pitch - pitch / 2) for s in (0, pitch / 2)]
    radius = np.sqrt(np.clip(shade + dusk, 0, 0.55)) * pitch * 0.42
    dots = np.clip(radius - np.minimum(*near) + 0.5, 0, 1).astype(np.float32)
    return _image(_ink(flat * (1 - 0.36 * dots[..., None]), _outline(canvas, size, 2.0)))


def surrealistic(canvas: Canvas, scene: Scene, size: int) -> Image.Image:
    """A dream: the place in turned colors, and everything melts in long waves."""
    rng = np.random.default_rng(scene.seed)
    picture = _shaded(canvas)
    turned = picture[..., [2, 0, 1]] * _rgb(0.95, 0.80, 0.95) + _rgb(0.10, 0.06, 0.08)
    inside = canvas.thing[..., None]
    small = _reduce(picture * inside + turned * (1 - inside), size)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    a, b = rng.uniform(0, 2 * np.pi, 2)
    down = 0.045 * np.sin(2 * np.pi * (2.2 * columns) + a) * (0.4 + rows)
    side = 0.040 * np.sin(2 * np.pi * (1.7 * rows) + b)
    return _image(_sample(small, (rows + down) * size, (columns + side) * size))


LOOK_PAINTERS: dict[str, Callable[[Canvas, Scene, int], Image.Image]] = {
    "photographic": photographic, "cinematic": cinematic, "anime": anime, "lineart": lineart,
    "gogh": gogh, "pixelart": pixelart, "comic": comic, "surrealistic": surrealistic,
}  # fmt: skip


def _rgb(red: float, green: float, blue: float) -> Floats:
    return np.array([red, green, blue], np.float32)


def _shaded(canvas: Canvas) -> Floats:
    return np.clip(canvas.color * canvas.light[..., None] + canvas.gloss[..., None], 0, 1)


def _defocus(picture: Floats, canvas: Canvas, radius: float) -> Floats:
    """``picture`` blurred by ``radius`` pixels where the thing is not; all sharp where there is no thing."""
    if not canvas.thing.any():
        return picture
    soft = gaussian_filter(picture, (radius, radius, 0))
    inside = canvas.thing[..., None]
    mixed: Floats = picture * inside + soft * (1 - inside)
    return mixed


def _vignette(size: int, depth: float) -> Floats:
    at = np.linspace(-1, 1, size, dtype=np.float32)
    return 1 - depth * np.clip((at[:, None] ** 2 + at[None] ** 2) / 2 - 0.15, 0, 1)


def _outline(canvas: Canvas, size: int, width: float) -> Floats:
    """How much ink each pixel has: the borders between parts, ``width`` pixels wide at 128."""
    label = canvas.label
    edge = np.zeros(label.shape, bool)
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    edge[1:] |= label[1:] != label[:-1]
    reach = max(2, round(width * canvas.size / 128))
    thick = maximum_filter(edge, size=(reach, reach))
    return _reduce(thick[..., None].astype(np.float32), size)[..., 0]


def _ink(picture: Floats, ink: Floats) -> Floats:
    return picture * (1 - ink[..., None]) + INK * ink[..., None]


def _flow(inside: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Unit vectors (row, column) along which strokes run: around a few eddies, and along the thing's border."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    flow = np.stack([0.25 * np.sin(6 * columns), np.ones_like(rows)], axis=-1)
    for _ in range(4):
        y, x, turn = rng.uniform(0, 0.7), rng.uniform(0, 1), rng.choice((-1, 1))
        near = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 0.03)
        flow += 7 * turn * near[..., None] * np.stack([columns - x, y - rows], axis=-1) * 3
    dy, dx = np.gradient(gaussian_filter(inside, size / 18))
    flow += np.stack([-dx, dy], axis=-1) * 60
    unit: Floats = flow / (np.linalg.norm(flow, axis=-1, keepdims=True) + 1e-6)
    return unit


def _smear(stack: Floats, flow: Floats, size: int) -> Floats:
    """The mean of ``stack`` along the flow line through each pixel (line integral convolution; Cabral, Leedom 1993)."""
    total, step = stack.copy(), size / 128
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).astype(np.float32)
    for sign in (-1, 1):
        at = grid.copy()
        for _ in range(5):
            near = np.clip(np.round(at), 0, size - 1).astype(np.int32)
            at += 1.4 * sign * step * flow[near[..., 0], near[..., 1]]
            near = np.clip(np.round(at), 0, size - 1).astype(np.int32)
            total += stack[near[..., 0], near[..., 1]]
    return total / 11


def _sample(picture: Floats, rows: Floats, columns: Floats) -> Floats:
    return np.stack([map_coordinates(picture[..., c], [rows, columns], order=1, mode="nearest") for c in range(3)], -1)


def _saturate(picture: Floats, share: float) -> Floats:
    luma = _luma(picture)[..., None]
    return np.clip(luma + (picture - luma) * share, 0, 1)


def _luma(picture: Floats) -> Floats:
    return picture @ _rgb(0.299, 0.587, 0.114)


def _reduce(picture: Floats, size: int) -> Floats:
    """The mean of every block, so that ``size`` rows and columns are left."""
    step = picture.shape[0] // size
    blocks: Floats = picture.reshape(size, step, size, step, -1).mean(axis=(1, 3))
    return blocks


def _image(picture: Floats) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), "RGB")
