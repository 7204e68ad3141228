"""A succeeded job in, OpenAI's answer to a call for pictures out. Reads the pictures from the store, where asked to."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence

from api.compat.shapes import Images, Picture
from api.kiln import Kiln
from common.ids import show_id
from common.jobs.read import Job


async def show_pictures(kiln: Kiln, job: Job, response_format: str | None) -> Images:
    """The job's pictures, as bytes unless URLs were asked for. Raises StorageError, and NotFound where one is gone."""
    if response_format == "url":
        return show_urls(kiln, job)
    kept = [image for image in job.images if image.key]
    read = await asyncio.gather(*(kiln.pictures.read(str(image.key), image.bytes or 0) for image in kept))
    return _show(job, [{"b64_json": b64encode(data).decode()} for data in read])


def show_urls(kiln: Kiln, job: Job) -> Images:
    """The same, as URLs."""
    seconds = kiln.settings.presign_seconds
    return _show(job, [{"url": kiln.objects.presign(image.key, seconds)} for image in job.images if image.key])


def show_bytes(kiln: Kiln, job: Job) -> Images:
    """The same, as bytes, read at leisure in a thread."""
    read = [b"".join(kiln.objects.open(image.key)) for image in job.images if image.key]
    return _show(job, [{"b64_json": b64encode(data).decode()} for data in read])


def _show(job: Job, pictures: Sequence[dict[str, str]]) -> Images:
    assert job.finished_at is not None  # noqa: S101 - it succeeded
    revised = job.enhanced_prompt or job.styled_prompt or job.spec.prompt
    return Images(
        created=int(job.finished_at.timestamp()),
        data=[Picture(**picture, revised_prompt=revised) for picture in pictures],
        output_format=job.spec.output_format,
        size=f"{job.spec.width}x{job.spec.height}",
        job_id=show_id("job", job.id),
    )
