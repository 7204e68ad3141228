"""What one stage hands to the next: frozen, one class per arrow. Claim -> Enhanced -> Rendered -> Scored -> Stored."""

from dataclasses import dataclass
from typing import Any

from PIL import Image

from common.jobs.claim import Claim
from common.jobs.lease import StoredImage

__all__ = ["Claim", "Enhanced", "Rendered", "Scored", "StoredImage"]


@dataclass(frozen=True, slots=True)
class Enhanced:
    """The texts of a job: what the user wrote, in its style, and what the text encoder will see."""

    prompt: str
    styled_prompt: str
    enhanced_prompt: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """Pictures in index order, each with the seed of its noise, and the recipe that makes them again."""

    images: tuple[Image.Image, ...]
    seeds: tuple[int, ...]
    recipe: dict[str, Any]
    tiled: tuple[bool, ...]  # for want of memory decoded in tiles, which gives other bits


@dataclass(frozen=True, slots=True)
class Scored:
    """One CLIP score per picture against the user's prompt, one against the final prompt, and which are kept."""

    clip_scores: tuple[float, ...]
    final_scores: tuple[float, ...]
    kept: tuple[int, ...]
