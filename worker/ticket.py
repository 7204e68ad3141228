"""What one stage hands to the next: frozen, one class per arrow. Claim -> Enhanced -> Rendered -> Scored -> Stored."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from PIL import Image

from common.jobs.spec import JobSpec


@dataclass(frozen=True, slots=True)
class Claim:
    """A job this worker holds: which one, which attempt, and the token that every later write must show."""

    job_id: UUID
    attempt: int
    token: UUID
    spec: JobSpec


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


@dataclass(frozen=True, slots=True)
class Scored:
    """One CLIP score per picture against the user's prompt, one against the final prompt, and which are kept."""

    clip_scores: tuple[float, ...]
    final_scores: tuple[float, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One picture as the images table records it. A picture that keep_best dropped has no object: its key is None."""

    index: int
    seed: int
    width: int
    height: int
    clip_score: float
    key: str | None = None
    thumbnail_key: str | None = None
    content_type: str | None = None
    bytes: int | None = None
    sha256: str | None = None
