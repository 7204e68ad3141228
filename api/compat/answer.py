"""A succeeded job in, OpenAI's answer to a call for pictures out. Reads the pictures from the store, where asked to."""

from base64 import b64encode

from api.compat.shapes import Images, Picture
from api.kiln import Kiln
from common.ids import show_id
from common.jobs.read import Image, Job


def show_pictures(kiln: Kiln, job: Job, response_format: str | None) -> Images:
    """The job's pictures, as bytes unless URLs were asked for. Raises StorageError, and NotFound where one is gone."""
    assert job.finished_at is not None  # noqa: S101 - it succeeded
    revised = job.enhanced_prompt or job.styled_prompt or job.spec.prompt
    return Images(
        created=int(job.finished_at.timestamp()),
        data=[_show(kiln, image, response_format, revised) for image in job.images if image.key],
        output_format=job.spec.output_format,
        size=f"{job.spec.width}x{job.spec.height}",
        job_id=show_id("job", job.id),
    )


def _show(kiln: Kiln, image: Image, response_format: str | None, revised: str) -> Picture:
    key = str(image.key)
    if response_format == "url":
        return Picture(url=kiln.objects.presign(key, kiln.settings.presign_seconds), revised_prompt=revised)
    return Picture(b64_json=b64encode(b"".join(kiln.objects.open(key))).decode(), revised_prompt=revised)
