"""The jobs of a batch in; a zip of their pictures, as it is made, out. Holds one chunk of one picture at a time."""

from collections.abc import Callable, Iterator
from uuid import UUID

from zipstream import ZipStream

from api.pieces import in_pieces
from common.ids import show_id
from common.jobs.read import Image, Job
from common.names import picture_name

RESULTS = "results.ndjson"

Open = Callable[[Image, str], Iterator[bytes] | None]  # one of the picture's objects; None: it is deleted


def stream_archive(jobs: Callable[[], Iterator[Job]], line: Callable[[Job], str], open_object: Open) -> Iterator[bytes]:
    """First the pictures, stored as they are, then a line for each of their jobs. ``jobs`` is asked twice.

    Raises StorageError where the store goes away or lacks a picture, and Unavailable; the zip is then cut off, and no
    reader takes it for whole.
    """
    archive = ZipStream()
    told: set[UUID] = set()  # those that end meanwhile would have a line without pictures
    for job in jobs():
        told.add(job.id)
        for image in job.images:
            if image.key is not None and (picture := open_object(image, image.key)) is not None:
                archive.add(picture, _name(job, image))
                yield from archive.all_files()
    lines = (line(job) for job in jobs() if job.id in told)
    archive.add((piece.encode() for piece in in_pieces(lines)), RESULTS)
    yield from archive.finalize()


def _name(job: Job, image: Image) -> str:
    assert image.key is not None  # noqa: S101 - only kept pictures come here
    suffix = "." + image.key.rpartition(".")[2]
    return picture_name(job.spec.prompt, job.spec.style, image.seed, show_id("job", job.id), suffix)
