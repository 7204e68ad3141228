"""Stage 4, store: scored pictures in; objects in the bucket, and what the images table will say of them, out."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from PIL import Image

from common.fault import fault
from common.jobs.spec import JobSpec
from worker.picture import CONTENT_TYPES, encode, thumbnail
from worker.ticket import Rendered, Scored, StoredImage

Put = Callable[[str, bytes, str], None]  # key, bytes, content type


def store(
    job_id: UUID, attempt: int, spec: JobSpec, rendered: Rendered, scored: Scored, put: Put
) -> tuple[StoredImage, ...]:
    """Encode and ``put`` what is kept, and raise what that raises; rows come later.

    Keys hold the attempt, so that a worker thought dead can overwrite nothing that a row points at.
    """
    return tuple(
        _upload(job_id, attempt, index, image, spec, rendered, scored, put)
        if index in scored.kept
        else _row(index, image, rendered, scored)
        for index, image in enumerate(rendered.images)
    )


def object_key(job_id: UUID, attempt: int, index: int, extension: str) -> str:
    """Where a picture lies: a pure function of job, attempt and index."""
    return f"images/{job_id.hex}/{attempt}/{index}.{extension}"


def _upload(
    job_id: UUID,
    attempt: int,
    index: int,
    image: Image.Image,
    spec: JobSpec,
    rendered: Rendered,
    scored: Scored,
    put: Put,
) -> StoredImage:
    recipe = rendered.recipe | {
        "index": index,
        "image_seed": rendered.seeds[index],
        "clip_score": scored.clip_scores[index],
        "final_clip_score": scored.final_scores[index],
    }
    if any(rendered.tiled):
        recipe["vae_tiling"] = rendered.tiled[index]
    data = encode(image, spec.output_format, recipe)
    small = thumbnail(image)
    key = object_key(job_id, attempt, index, spec.output_format)
    thumbnail_key = object_key(job_id, attempt, index, "thumb.webp")
    content_type = CONTENT_TYPES[spec.output_format]
    put(key, data, content_type)
    fault("uploading")
    put(thumbnail_key, small, CONTENT_TYPES["webp"])
    return replace(
        _row(index, image, rendered, scored),
        key=key,
        thumbnail_key=thumbnail_key,
        content_type=content_type,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _row(index: int, image: Image.Image, rendered: Rendered, scored: Scored) -> StoredImage:
    return StoredImage(
        index=index,
        seed=rendered.seeds[index],
        width=image.width,
        height=image.height,
        clip_score=scored.clip_scores[index],
    )
