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
from api.kiln import Kiln, KilnDep, Reader
from api.pieces import in_pieces
from api.report import make_json, stream_csv, stream_html
from api.views import show_job
from common.errors import NotFound
from common.ids import parse_id, show_id
from common.jobs.read import Job, each_ended
from common.jobs.tally import Batch, get_batch
from common.names import slug

router = APIRouter(prefix="/v1/batches", tags=["batches"])

REPORTS = {"html": ("text/html", "string"), "csv": ("text/csv", "string"), "json": ("application/json", "object")}


@router.get(
    "/{batch_id}/results",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
def results(batch_id: str, request: Request, kiln: KilnDep, owner: Reader) -> StreamingResponse:
    """The jobs that are over, one a line, in the order in which they were asked for."""
    key = parse_id("batch", batch_id)
    find(kiln, owner, key)
    lines = map(partial(_line, kiln, str(request.base_url)), each_ended(kiln.engine, owner, key))
    return StreamingResponse(in_pieces(lines), media_type="application/x-ndjson")


@router.get(
    "/{batch_id}/archive",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
def archive(batch_id: str, request: Request, kiln: KilnDep, owner: Reader) -> StreamingResponse:
    """A zip of the pictures that there are by now, and of results.ndjson, made while it is sent."""
    key = parse_id("batch", batch_id)
    found = find(kiln, owner, key)
    parts = stream_archive(
        partial(each_ended, kiln.engine, owner, key), partial(_line, kiln, str(request.base_url)), kiln.objects
    )
    headers = {"Content-Disposition": f'attachment; filename="{slug(found.name) or found.id.hex}.zip"'}
    return StreamingResponse(parts, media_type="application/zip", headers=headers)


@router.get(
    "/{batch_id}/report",
    response_class=StreamingResponse,
    responses={200: {"content": {kind: {"schema": {"type": told}} for kind, told in REPORTS.values()}}},
)
def report(
    batch_id: str,
    kiln: KilnDep,
    owner: Reader,
    form: Annotated[Literal["html", "csv", "json"], Query(alias="format")] = "html",
) -> StreamingResponse:
    """The morning's report on what is over: a file that opens offline, a line a picture, or the figures alone."""
    key = parse_id("batch", batch_id)
    found, jobs = find(kiln, owner, key), partial(each_ended, kiln.engine, owner, key)
    parts: Iterator[str] = {
        "html": lambda: stream_html(found, jobs, kiln.objects),
        "csv": lambda: stream_csv(jobs),
        "json": lambda: iter([make_json(found, jobs)]),
    }[form]()
    headers = {"Content-Disposition": f'inline; filename="{slug(found.name) or found.id.hex}.{form}"'}
    return StreamingResponse(in_pieces(parts), media_type=REPORTS[form][0], headers=headers)


def find(kiln: Kiln, owner: str, batch_id: UUID) -> Batch:
    batch = get_batch(kiln.engine, owner, batch_id, alive_seconds=kiln.settings.lease_seconds)
    if batch is None:
        raise NotFound(f"there is no batch {show_id('batch', batch_id)}")
    return batch


def _line(kiln: Kiln, base_url: str, job: Job) -> str:
    url_seconds = kiln.settings.presign_seconds
    shown = show_job(job, None, base_url=base_url, objects=kiln.objects, url_seconds=url_seconds)
    return shown.model_dump_json() + "\n"
