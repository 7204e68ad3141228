"""Pictures in; the same pictures moved, softened, a little noisy and off in tone out. Pure.

What judges painted pictures has to know their faults, or it takes whatever a VAE has decoded for something else.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate


def to_tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Bytes (n, height, width, 3) as floats (n, 3, height, width) in 0..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def move(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each picture (n, 3, h, w) shifted by up to 5 % and scaled by up to 8 %, its edge continued."""
    count = len(pictures)
    placing = torch.zeros(count, 2, 3)
    placing[:, 0, 0] = placing[:, 1, 1] = 1 + 0.08 * _spread(generator, count)
    placing[:, :, 2] = 0.1 * _spread(generator, count, 2)  # a picture is two units wide here
    grid = affine_grid(placing, list(pictures.shape), align_corners=False)
    return grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def soften(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each picture (n, 3, h, w) in 0..1 blurred by some amount, some halved in detail; noise; another tone."""
    shape = (len(pictures), 1, 1, 1)
    softness = torch.rand(shape, generator=generator)
    softened = pictures + softness * (blur(pictures, 1.2) - pictures)
    halved = interpolate(avg_pool2d(softened, 2), scale_factor=2.0, mode="bilinear")
    softened = torch.where(torch.rand(shape, generator=generator) < 0.25, halved, softened)
    noise = torch.randn(pictures.shape, generator=generator) * 0.04 * torch.rand(shape, generator=generator)
    gain = 1 + 0.1 * _spread(generator, *shape)
    shift = 0.04 * _spread(generator, len(pictures), 3, 1, 1)
    return ((softened - 0.5) * gain + 0.5 + shift + noise).clamp(0, 1)


def blur(pictures: torch.Tensor, deviation: float) -> torch.Tensor:
    """Square pictures (n, c, size, size) under a Gaussian of ``deviation`` pixels.

    Two products with a matrix: for pictures as small as these much faster than a convolution of three channels.
    """
    at = torch.arange(float(pictures.shape[-1]))
    bell = torch.exp(-((at[:, None] - at) ** 2) / (2 * deviation**2))
    bell /= bell.sum(dim=1, keepdim=True)
    return bell @ pictures @ bell.T


def _spread(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Evenly drawn numbers from -1 to 1."""
    return 2 * torch.rand(shape, generator=generator) - 1
