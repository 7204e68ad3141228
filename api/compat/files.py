"""Files for OpenAI's clients: lines to make a batch of in; what became of a batch out, made while it is read."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from api.compat import results
from api.compat.route import OpenAILongRoute
from api.compat.shapes import Deleted, File
from api.kiln import DOWNLOAD, Kiln, KilnDep, Reader, Submitter, reads_many
from api.pieces import in_pieces
from api.pools import in_time
from api.resolve import plain_text
from api.schemas import Page
from api.turns import LARGE_BYTES
from common.errors import Conflict, InvalidRequest, NotFound
from common.ids import parse_id, show_id
from common.jobs import files
from common.jobs.files import File as Row

router = APIRouter(prefix="/v1/files", tags=["openai"], route_class=OpenAILongRoute)

MAX_NAME = 255  # characters
HELD = 16  # times the largest file is what an owner's files may have in all
LINES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}}


class Upload(BaseModel):
    """A file, as a form."""

    model_config = ConfigDict(extra="forbid")

    file: UploadFile
    purpose: Literal["batch"]


@router.post("", response_model=File)
async def create(
    form: Annotated[Upload, Form(media_type="multipart/form-data")], kiln: KilnDep, owner: Submitter
) -> File:
    """Keep a file of lines, to make a batch of. It is read when the batch is made, and may be deleted after."""
    name = form.file.filename or "lines.jsonl"
    if wrong := plain_text("file", name, MAX_NAME):
        raise InvalidRequest(f"file: its name {wrong[0].detail}", tuple(wrong))
    most = HELD * kiln.settings.max_batch_bytes

    def keep() -> Row:
        return files.keep_file(kiln.patient, owner, name, form.file.file.read(), most=most)

    async with kiln.turns.taken(owner, large=(form.file.size or 0) > LARGE_BYTES):
        return _show(await kiln.writing.pool.run(keep))


@router.get("", response_model=Page[File])
@reads_many
def index(
    kiln: KilnDep,
    owner: Reader,
    purpose: Annotated[str | None, Query(description="only batch has any")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(description="last_id of the page before")] = None,
) -> Page[File]:
    """The caller's uploaded files."""
    if purpose not in (None, "batch"):
        return Page(data=[], has_more=False, last_id=None)
    behind = parse_id("file", after) if after else None
    found, more = files.list_files(kiln.engine, owner, after=behind, limit=limit, newest_first=order == "desc")
    shown = [_show(file) for file in found]
    return Page(data=shown, has_more=more, last_id=shown[-1].id if shown else None)


@router.get("/{file_id}", response_model=File)
@reads_many
def show(file_id: str, kiln: KilnDep, owner: Reader) -> File:
    """One file, without its content."""
    if made := results.find(kiln, owner, file_id):
        return made.show()
    return _show(_find(kiln, owner, file_id))


@router.get("/{file_id}/content", response_class=StreamingResponse, dependencies=[DOWNLOAD], responses=LINES)
async def content(file_id: str, kiln: KilnDep, owner: Reader) -> StreamingResponse:
    """The lines of a file; those of a batch's results are made while they are sent."""
    made = await kiln.reading.pool.run(results.find, kiln.reading, owner, file_id)
    if made is None:
        file = await kiln.reading.pool.run(_find, kiln.reading, owner, file_id)
        pieces = kiln.exports.stream(files.read_pieces(kiln.patient, owner, file))
        return StreamingResponse(pieces, media_type="application/jsonl", headers={"Content-Length": str(file.bytes)})
    if made.kind == results.OUTPUT:
        await in_time(kiln.pictures.check())
    lines = kiln.albums.stream(in_pieces(made.lines(kiln.reading)))
    return StreamingResponse(lines, media_type="application/jsonl")


@router.delete("/{file_id}", response_model=Deleted)
@reads_many
def delete(file_id: str, kiln: KilnDep, owner: Submitter) -> Deleted:
    """Delete an uploaded file. Batches that were made of it stay as they are."""
    if results.find(kiln, owner, file_id):
        raise Conflict("results of a batch are read off its jobs, and are no file of their own: delete its jobs")
    if not files.delete_file(kiln.engine, owner, parse_id("file", file_id)):
        raise _unknown(file_id)
    return Deleted(id=file_id)


def _find(kiln: Kiln, owner: str, file_id: str) -> Row:
    file = files.get_file(kiln.engine, owner, parse_id("file", file_id))
    if file is None:
        raise _unknown(file_id)
    return file


def _show(file: Row) -> File:
    return File(
        id=show_id("file", file.id),
        bytes=file.bytes,
        created_at=int(file.created_at.timestamp()),
        filename=file.name,
        purpose="batch",
    )


def _unknown(file_id: str) -> NotFound:
    return NotFound(f"there is no file {file_id[:80]}")
