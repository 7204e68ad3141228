"""Pictures in, numbers out: hue of the thing, saturation, black bars, blocks, likeness of two. No network, no files.

A picture is an array of bytes (size, size, 3) of a size that 32 divides. Every measure was tried on drawn scenes that
have what it looks for and on others (tests/demo/test_measures.py).
"""

import colorsys
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, binary_opening, gaussian_filter, label

from demo.world.scene import COLORS

Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]

BLOCKS = 32  # a side of a pixel art picture, at every size
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
STEEP = 0.1  # of the difference between two neighbors in luma, in 0..1
GRAY = 0.15  # of the largest less the smallest of red, green and blue, in 0..1: below it no color is seen


def find_thing(picture: Picture) -> NDArray[np.bool_]:
    """Where the thing is that stands before a background of level stripes, such as a table before a wall.

    Each row's background is the color of its end, left or right: where the column of ends changes less from top to
    bottom, for a thing may reach into the other. What differs from it is the thing, of which the largest piece counts.
    """
    values = _unit(picture)
    width = values.shape[1]
    edge = width // 32
    ends = [np.median(part, axis=1, keepdims=True) for part in (values[:, :edge], values[:, -edge:])]
    background = min(ends, key=_change)
    distance = np.linalg.norm(values - background, axis=-1)
    different = binary_opening(distance > 0.25, iterations=max(1, width // 128))
    pieces, count = label(different)
    if not count:
        return np.zeros_like(distance, np.bool_)
    sizes = np.bincount(pieces.ravel())[1:]
    thing: NDArray[np.bool_] = binary_fill_holes(pieces == 1 + int(sizes.argmax()))
    return thing


def _change(column: Floats) -> float:
    """How much a column (height, 1, 3) changes, in steps of a 32nd of it: finer ones would count noise."""
    return float(np.abs(np.diff(column.reshape(32, -1, 3).mean(axis=1), axis=0)).sum())


def median_hue(picture: Picture, where: NDArray[np.bool_]) -> float:
    """The median hue, in degrees, of the colored pixels ``where`` says; NaN where there is none.

    The median is taken around the mean direction, for hue is a circle.
    """
    values = _unit(picture)[where]
    colored = values[_chroma(values) > GRAY]
    if not len(colored):
        return float("nan")
    hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in colored.tolist()]) * 2 * np.pi
    center = np.angle(np.exp(1j * hues).mean())
    around = np.angle(np.exp(1j * (hues - center)))
    return float(np.degrees(center + np.median(around)) % 360)


def nearest_color(hue: float, names: tuple[str, ...]) -> str:
    """The one of ``names`` whose hue in COLORS is nearest to ``hue``, in degrees, around the circle."""
    return min(names, key=lambda name: abs((hue - COLORS[name][0] + 180) % 360 - 180))


def saturated_share(picture: Picture) -> float:
    """The part of the pixels in which a color is seen."""
    return float((_chroma(_unit(picture)) > GRAY).mean())


def has_bars(picture: Picture) -> bool:
    """Whether an eighth of the rows is black at the top and at the bottom, and what is between begins with a step.

    A row of tolerance on either side of the border; a night without the step has no bars. Of a pixel the strongest
    channel counts, not luma, in which the dark blue of space is as good as black.
    """
    value = _unit(picture).max(axis=-1)
    bar, row = len(value) // 8, len(value) // 128
    for rows in (value, value[::-1]):
        black = np.quantile(rows[: bar - row], 0.95) < 0.12
        step = rows[bar + row : bar + 3 * row].mean() - rows[bar - 3 * row : bar - row].mean()
        if not black or step < 0.02:
            return False
    return True


def like_their_block(picture: Picture, tolerance: float = 1 / 14) -> float:
    """The part of the pixels that differ from their block's mean by at most ``tolerance`` (of 1) in every channel."""
    values = _unit(picture)
    side = len(values) // BLOCKS
    blocks = values.reshape(BLOCKS, side, BLOCKS, side, 3)
    distance = np.abs(blocks - blocks.mean(axis=(1, 3), keepdims=True)).max(axis=-1)
    return float((distance <= tolerance).mean())


def edges_on_grid(picture: Picture) -> float:
    """The part of all change between neighboring pixels that falls on the borders of blocks, or one pixel beside them.

    1 for perfect blocks; for a picture that knows no grid, about three over the side of a block. The pixel beside is
    the decoder's: it softens an edge by that much. Change is counted up to STEEP, squared: else two black bars, which
    happen to end on the grid, outweigh all else.
    """
    luma = _unit(picture) @ np.array(LUMA)
    side = len(luma) // BLOCKS
    on, everything = 0.0, 0.0
    for values in (luma, luma.T):
        energy = (np.abs(np.diff(values, axis=0)).clip(max=STEEP) ** 2).sum(axis=1)
        from_border = (np.arange(len(energy)) + 1) % side
        on += float(energy[np.minimum(from_border, side - from_border) <= 1].sum())
        everything += float(energy.sum())
    return on / everything if everything else 0.0


def ssim(one: Picture, other: Picture) -> float:
    """Structural similarity in luma, 1 for equal pictures (Wang et al. 2004: window of 1.5 pixels, K 0.01 and 0.03)."""
    x, y = (_unit(picture) @ np.array(LUMA) for picture in (one, other))
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    likeness /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(likeness.mean())


def mean_ssim(pictures: list[Picture]) -> float:
    """The mean over all pairs: how much alike ``pictures`` are, two or more."""
    return float(np.mean([ssim(one, other) for one, other in combinations(pictures, 2)]))


def _window(values: Floats) -> Floats:
    smooth: Floats = gaussian_filter(values, 1.5, truncate=3.5)  # 11 pixels wide, as published
    return smooth


def _unit(picture: Picture) -> Floats:
    return picture.astype(np.float64) / 255


def _chroma(values: Floats) -> Floats:
    chroma: Floats = values.max(axis=-1) - values.min(axis=-1)
    return chroma
