"""The jobs of a batch in; a zip of their pictures, as it is made, out. Holds one chunk of one picture at a time."""

from collections.abc import Callable, Iterator

import structlog
from zipstream import ZipStream

from api.pieces import in_pieces
from common.errors import NotFound
from common.ids import show_id
from common.jobs.read import Image, Job
from common.names import picture_name
from common.objects import Objects

log = structlog.get_logger()

RESULTS = "results.ndjson"


def stream_archive(jobs: Callable[[], Iterator[Job]], line: Callable[[Job], str], objects: Objects) -> Iterator[bytes]:
    """First the pictures, stored as they are, then a line for each job. ``jobs`` is asked twice.

    Raises StorageError where the store goes away; the zip is then cut off, and no reader takes it for whole.
    """
    archive = ZipStream()
    for job in jobs():
        for image in job.images:
            if image.key is not None and (picture := _open(objects, image.key)) is not None:
                archive.add(picture, _name(job, image))
                yield from archive.all_files()
    archive.add((piece.encode() for piece in in_pieces(map(line, jobs()))), RESULTS)
    yield from archive.finalize()


def _open(objects: Objects, key: str) -> Iterator[bytes] | None:
    try:
        return objects.open(key)
    except NotFound:  # deleted by its owner meanwhile
        log.warning("picture left out of an archive: it is gone", key=key)
        return None


def _name(job: Job, image: Image) -> str:
    assert image.key is not None  # noqa: S101 - only kept pictures come here
    suffix = "." + image.key.rpartition(".")[2]
    return picture_name(job.spec.prompt, job.spec.style, image.seed, show_id("job", job.id), suffix)
