"""Batches for OpenAI's clients: an order and its file in, the jobs of its lines out; and how such a batch stands."""

import hashlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api import intake
from api.compat.ask import as_job, places
from api.compat.results import ERRORS, OUTPUT
from api.compat.route import as_bad_parameters
from api.compat.shapes import GENERATIONS, Batch, Counts, Line, Order
from api.expand import plan_lines
from api.kiln import Kiln
from api.lines import MAX_CUSTOM_ID, Asked, Found, numbered, wrong_fields
from api.orders import LineOptions
from api.resolve import check_metadata, plain_text
from api.views import show_batch
from common.errors import FieldError, InvalidRequest, MalformedBody, NotFound
from common.ids import parse_id, show_id
from common.jobs import tally
from common.jobs.batch import NewBatch
from common.jobs.files import read_file
from common.jobs.state import TERMINAL, Status

MAX_ORDER = 1 << 18  # bytes
HOUR = timedelta(hours=1)
OURS = ("name", "counts", "progress", "eta_seconds", "lane", "paused_at", "urls")
UNITS = {"h": HOUR, "d": timedelta(days=1)}


def read_if_order(body: BinaryIO, kind: str) -> bytes | None:
    """The body of POST /v1/batches where it is OpenAI's, which names a file, and is short; the file is at its start."""
    content = body.read(MAX_ORDER + 1) if kind == intake.MATRIX else b""
    body.seek(0)
    is_order = len(content) <= MAX_ORDER and b"input_file_id" in content and _names_file(content)
    return content if is_order else None


def _names_file(content: bytes) -> bool:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):  # for the reader of matrices to tell of
        return False
    return isinstance(said, dict) and "input_file_id" in said


def read_order(body: bytes, options: LineOptions, kiln: Kiln, owner: str, *, again: bool) -> intake.Asked:
    """The batch and its jobs. Raises BadParameter with the line and the field of what is wrong, and NotFound."""
    with as_bad_parameters():
        order = _check(body, options, kiln)
        found = read_file(kiln.engine, owner, parse_id("file", order.input_file_id))
        if found is None:
            raise NotFound(f"there is no file {order.input_file_id}")
        file, content = found
        plan = plan_lines(_read_lines(content), kiln.settings, owner)
    batch = NewBatch(
        owner,
        name=file.name[: intake.MAX_NAME],
        fingerprint=hashlib.sha256(body).hexdigest(),
        deadline=datetime.now(UTC) + int(order.completion_window[:-1]) * UNITS[order.completion_window[-1]],
        metadata=order.metadata,
        input_file_id=file.id,
        again=again,
    )
    return intake.Asked(batch, plan, dry_run=False)


def show_order(batch: tally.Batch, *, base_url: str) -> Batch:
    """The batch as OpenAI's clients know it, and what ours read beside that."""
    assert batch.input_file_id is not None  # noqa: S101 - else it is ours
    ours = show_batch(batch, base_url=base_url)
    ended, counts = batch.finished_at, batch.counts
    status = _status(batch)
    succeeded = counts.get(Status.SUCCEEDED, 0)
    failed = sum(count for state, count in counts.items() if state in TERMINAL) - succeeded
    over = _seconds(max(ended, batch.canceled_at or ended)) if ended else None
    return Batch(
        id=show_id("batch", batch.id),
        input_file_id=show_id("file", batch.input_file_id),
        completion_window=f"{round((batch.deadline - batch.created_at) / HOUR)}h" if batch.deadline else "",
        status=status,
        request_counts=Counts(total=sum(counts.values()), completed=succeeded, failed=failed),
        output_file_id=show_id(OUTPUT, batch.id) if ended and succeeded else None,
        error_file_id=show_id(ERRORS, batch.id) if ended and failed else None,
        metadata=dict(batch.metadata),
        created_at=_seconds(batch.created_at),
        in_progress_at=_seconds(batch.started_at or batch.created_at),
        expires_at=_seconds(batch.deadline) if batch.deadline else None,
        finalizing_at=over,
        completed_at=over if status == "completed" else None,
        expired_at=over if status == "expired" else None,
        cancelling_at=_seconds(batch.canceled_at) if batch.canceled_at else None,
        cancelled_at=over if status == "cancelled" else None,
        **{name: getattr(ours, name) for name in OURS},
    )


def _status(batch: tally.Batch) -> Literal["in_progress", "completed", "expired", "cancelling", "cancelled"]:
    """One that waits or is paused is in progress, too: nothing is left to validate."""
    if batch.canceled_at:
        return "cancelled" if batch.finished_at else "cancelling"
    if not batch.finished_at:
        return "in_progress"
    return "expired" if batch.counts.get(Status.EXPIRED) else "completed"


def _check(body: bytes, options: LineOptions, kiln: Kiln) -> Order:
    try:
        order = Order.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error
    errors = [FieldError(f"/{name}", "is no option of a batch of a file") for name in sorted(options.model_fields_set)]
    if order.endpoint != GENERATIONS:
        errors.append(FieldError("/endpoint", f"must be {GENERATIONS}"))
    errors += check_metadata(order.metadata or {}, kiln.settings)
    if errors:
        raise InvalidRequest(f"{errors[0].pointer[1:]} {errors[0].detail}", tuple(errors))
    return order


def _read_lines(content: bytes) -> Iterator[Found]:
    try:
        yield from (_read_line(line, number) for number, line in numbered(io.BytesIO(content)))
    except MalformedBody as error:
        yield (FieldError("/input_file_id", f"is no text: {error.detail}"),)


def _read_line(text: str, number: int) -> Found:
    try:
        line = Line.model_validate_json(text)
    except ValidationError as error:
        return wrong_fields(error, f"/lines/{number}")
    if wrong := plain_text(f"lines/{number}/custom_id", line.custom_id, MAX_CUSTOM_ID):
        return tuple(wrong)
    job = as_job(line.body, remember=True)
    return Asked(job, f"/lines/{number}", places(number), line.custom_id)


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
