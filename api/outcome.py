"""What became of a batch: its id in; the jobs that are over, a zip of their pictures, or the morning's report, out.

Streamed, a page of jobs at a time: no batch is too large, and none holds a connection to the database.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from api.archive import stream_archive
from api.kiln import DOWNLOAD, Kiln, KilnDep, Reader
from api.pieces import in_pieces
from api.pools import in_time
from api.report import make_json, stream_csv, stream_html
from api.views import show_job
from common.errors import NotFound, StorageError
from common.ids import parse_id, show_id
from common.jobs.read import Image, Job, each_ended, get_image
from common.jobs.tally import Batch, get_batch
from common.names import slug

router = APIRouter(prefix="/v1/batches", tags=["batches"])

REPORTS = {"html": ("text/html", "string"), "csv": ("text/csv", "string"), "json": ("application/json", "object")}


@router.get(
    "/{batch_id}/results",
    response_class=StreamingResponse,
    dependencies=[DOWNLOAD],
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
async def results(batch_id: str, request: Request, kiln: KilnDep, owner: Reader) -> StreamingResponse:
    """The jobs that are over, one a line, in the order in which they were asked for."""
    key = parse_id("batch", batch_id)
    await _find(kiln, owner, key)
    lines = map(partial(_line, kiln, str(request.base_url)), each_ended(kiln.patient, owner, key))
    return StreamingResponse(kiln.exports.stream(in_pieces(lines)), media_type="application/x-ndjson")


@router.get(
    "/{batch_id}/archive",
    response_class=StreamingResponse,
    dependencies=[DOWNLOAD],
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def archive(batch_id: str, request: Request, kiln: KilnDep, owner: Reader) -> StreamingResponse:
    """A zip of the pictures that there are by now, and of results.ndjson, made while it is sent."""
    key = parse_id("batch", batch_id)
    found = await _find(kiln, owner, key)
    await in_time(kiln.pictures.check())
    parts = stream_archive(
        partial(each_ended, kiln.patient, owner, key),
        partial(_line, kiln, str(request.base_url)),
        partial(_open, kiln, owner),
    )
    headers = {"Content-Disposition": f'attachment; filename="{slug(found.name) or found.id.hex}.zip"'}
    return StreamingResponse(kiln.albums.stream(parts), media_type="application/zip", headers=headers)


@router.get(
    "/{batch_id}/report",
    response_class=StreamingResponse,
    dependencies=[DOWNLOAD],
    responses={200: {"content": {kind: {"schema": {"type": told}} for kind, told in REPORTS.values()}}},
)
async def report(
    batch_id: str,
    kiln: KilnDep,
    owner: Reader,
    form: Annotated[Literal["html", "csv", "json"], Query(alias="format")] = "html",
) -> StreamingResponse:
    """The morning's report on what is over: a file that opens offline, a line a picture, or the figures alone."""
    key = parse_id("batch", batch_id)
    found, jobs = await _find(kiln, owner, key), partial(each_ended, kiln.patient, owner, key)
    if form == "html":
        await in_time(kiln.pictures.check())
    parts: Iterator[str] = {
        "html": lambda: stream_html(found, jobs, partial(_open, kiln, owner)),
        "csv": lambda: stream_csv(jobs),
        "json": lambda: iter([make_json(found, jobs)]),
    }[form]()
    headers = {"Content-Disposition": f'inline; filename="{slug(found.name) or found.id.hex}.{form}"'}
    pool = kiln.albums if form == "html" else kiln.exports
    return StreamingResponse(pool.stream(in_pieces(parts)), media_type=REPORTS[form][0], headers=headers)


async def _find(kiln: Kiln, owner: str, batch_id: UUID) -> Batch:
    return await kiln.reading.pool.run(find, kiln.reading, owner, batch_id)


def find(kiln: Kiln, owner: str, batch_id: UUID) -> Batch:
    batch = get_batch(kiln.engine, owner, batch_id, alive_seconds=kiln.settings.lease_seconds)
    if batch is None:
        raise NotFound(f"there is no batch {show_id('batch', batch_id)}")
    return batch


def _open(kiln: Kiln, owner: str, image: Image, key: str) -> Iterator[bytes] | None:
    """An object of the picture; None where its owner deleted it meanwhile.

    Raises StorageError where the store does not have what it should: nothing is made that looks whole, and lacks it.
    """
    try:
        return kiln.objects.open(key)
    except NotFound as error:
        now = get_image(kiln.patient, owner, image.id)
        if now is None or now.key is None:
            return None
        raise StorageError(f"the object store has lost {key}") from error


def _line(kiln: Kiln, base_url: str, job: Job) -> str:
    url_seconds = kiln.settings.presign_seconds
    shown = show_job(job, None, base_url=base_url, objects=kiln.objects, url_seconds=url_seconds)
    return shown.model_dump_json() + "\n"
