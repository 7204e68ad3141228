"""The body of POST /v1/batches in; the batch and its jobs out. InvalidRequest names each field that is wrong."""

import hashlib
from dataclasses import dataclass
from datetime import time
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api.compat.shapes import Order
from api.expand import expand, read_lines
from api.orders import EXAMPLE, BatchRequest, LineOptions, NightWindow
from api.plan import Plan
from api.request_body import refuse_values
from api.resolve import check_deadline, check_metadata, plain_text, read_webhook
from common.errors import FieldError, InvalidRequest, UnknownMediaType
from common.jobs.batch import NewBatch
from common.jobs.window import DAYS, Window
from common.reach import Reach
from common.settings import Settings

MAX_NAME = 200  # characters
MAX_VALUES = 1_000_000  # commas and brackets of a matrix: each is a value in memory, or stands in a prompt
MOST_WRONG = 1000  # places that are named
MATRIX = "application/json"
LINES = {"application/x-ndjson": False, "application/jsonl": False, "text/csv": True}  # whether it is CSV


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    batch: NewBatch
    plan: Plan
    dry_run: bool


def fingerprint(body: BinaryIO, kind: str, options: LineOptions) -> str:
    """A hash of what was sent: equal for the same request, whatever its defaults become."""
    found = hashlib.sha256()
    if kind in LINES:
        found.update(b"\0".join([kind.encode(), options.model_dump_json().encode(), b""]))
    body.seek(0)
    while chunk := body.read(1 << 18):
        found.update(chunk)
    body.seek(0)
    return found.hexdigest()


def check_kind(kind: str) -> str:
    """The kind, if a batch may be sent so. Raises UnknownMediaType."""
    if kind != MATRIX and kind not in LINES:
        raise UnknownMediaType(f"a batch is {MATRIX}, {', '.join(LINES)}, and not {kind[:80]!r}")
    return kind


def read_batch(body: BinaryIO, kind: str, options: LineOptions, settings: Settings, owner: str) -> Asked:
    """A matrix of JSON, or lines and the ``options`` of the query. Raises also MalformedBody."""
    if kind in LINES:
        return _take_lines(body, kind, options, settings, owner)
    return _take_matrix(body, options, settings, owner)


def _take_lines(body: BinaryIO, kind: str, options: LineOptions, settings: Settings, owner: str) -> Asked:
    start, dash, end = (options.window or "").partition("-")
    if options.window and not dash:
        raise InvalidRequest("window must be HH:MM-HH:MM", (FieldError("/window", "must be HH:MM-HH:MM"),))
    night = NightWindow(start=start, end=end, tz=options.tz, days=options.days) if options.window else None
    errors = [*plain_text("name", options.name, MAX_NAME), *check_deadline(options.deadline)]
    if night is None:
        of_none = sorted(options.model_fields_set & {"tz", "days"})
        errors += [FieldError(f"/{name}", "is of a window, and there is none") for name in of_none]
    told = {"url": options.webhook_url, "events": options.webhook_events} if options.webhook_url else None
    webhook, wrong = read_webhook(told, "/webhook_url", Reach(settings.webhook_allow))
    if told is None and "webhook_events" in options.model_fields_set:
        wrong = [FieldError("/webhook_events", "needs webhook_url beside it")]
    errors += wrong
    window = _read_window(night, {"start": "/window", "end": "/window", "tz": "/tz", "days": "/days"}, errors)
    sent = fingerprint(body, kind, options)
    plan = read_lines(body, options, settings, owner, as_csv=LINES[kind])
    _check_best(options.keep_best, plan)
    batch = NewBatch(
        owner, options.name, sent, options.lane, options.deadline, window, options.keep_best, webhook=webhook
    )
    return Asked(batch, plan, options.dry_run)


def _take_matrix(body: BinaryIO, options: LineOptions, settings: Settings, owner: str) -> Asked:
    if given := sorted(options.model_fields_set):
        said = "stands in the body, where that is JSON"
        raise InvalidRequest(f"{given[0]} {said}", tuple(FieldError(f"/{name}", said) for name in given))
    content = body.read()
    refuse_values(content, MAX_VALUES)
    try:
        asked = BatchRequest.model_validate_json(content)
    except ValidationError as error:
        if error.error_count() > MOST_WRONG:
            raise InvalidRequest(f"the body is wrong in {error.error_count()} places") from error
        # as FastAPI tells it of bodies that it reads itself
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error
    told = asked.webhook.model_dump() if asked.webhook else None
    webhook, wrong = read_webhook(told, "/webhook/url", Reach(settings.webhook_allow))
    errors = [
        *plain_text("name", asked.name, MAX_NAME),
        *check_deadline(asked.deadline),
        *check_metadata(asked.metadata, settings),
        *wrong,
    ]
    window = _read_window(asked.window, {name: f"/window/{name}" for name in NightWindow.model_fields}, errors)
    plan = expand(asked, settings, owner)
    _check_best(asked.keep_best, plan)
    sent = fingerprint(body, MATRIX, options)
    batch = NewBatch(
        owner, asked.name, sent, asked.lane, asked.deadline, window, asked.keep_best, asked.metadata, webhook
    )
    return Asked(batch, plan, asked.dry_run)


def _check_best(keep: int | None, plan: Plan) -> None:
    """Raises InvalidRequest where nothing could be chosen from, or a job chooses for itself."""
    if keep is None:
        return
    if any(entry.job.spec.keep_best is not None for entry in plan.entries):
        wrong = "cannot be said of the batch and of a job in it"
    elif keep > (fewest := plan.fewest_pictures()):
        wrong = f"must be at most {fewest}: so many pictures differ in the seed alone"
    else:
        return
    raise InvalidRequest(f"keep_best {wrong}", (FieldError("/keep_best", wrong),))


def _read_window(night: NightWindow | None, places: dict[str, str], errors: list[FieldError]) -> Window | None:
    """The window, where it and all else is right. Raises InvalidRequest with ``errors`` and its own."""
    window = None
    if night is not None:
        start, end = (_clock(text, places[name], errors) for name, text in (("start", night.start), ("end", night.end)))
        if start is not None and start == end:
            errors.append(FieldError(places["end"], "must not be the start"))
        if unknown := [day for day in night.days if day not in DAYS]:
            errors.append(FieldError(places["days"], f"{unknown[0][:80]!r} is not known; known: {', '.join(DAYS)}"))
        zone = _zone(night.tz, places["tz"], errors)
        if start is not None and end is not None and zone is not None:
            window = Window(start, end, zone, tuple(day for day in DAYS if day in night.days))
    if errors:
        raise InvalidRequest(f"{errors[0].pointer[1:]} {errors[0].detail}", tuple(errors))
    return window


def _clock(text: str, pointer: str, errors: list[FieldError]) -> time | None:
    try:
        if len(text) != len("HH:MM"):
            raise ValueError
        return time.fromisoformat(text)
    except ValueError:
        errors.append(FieldError(pointer, f"{text[:80]!r} is not a time: HH:MM, from 00:00 to 23:59"))
    return None


def _zone(name: str, pointer: str, errors: list[FieldError]) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # no such zone; a path; a folder of zones
        errors.append(FieldError(pointer, f"{name[:80]!r} is no zone of the IANA database, as Europe/Berlin"))
    return None


def _describe() -> dict[str, Any]:
    """For the OpenAPI document: FastAPI knows no call that reads three kinds."""
    shape = BatchRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = shape.pop("$defs")
    shape["properties"]["matrix"] = parts["Matrix"]  # the other parts are known from jobs and answers
    kinds = {
        "application/json": {"schema": {"anyOf": [shape, Order.model_json_schema()]}, "example": EXAMPLE},
        **{kind: {"schema": {"type": "string"}} for kind in ("application/x-ndjson", "text/csv")},
    }
    return {"requestBody": {"required": True, "content": kinds}}


BODY = _describe()
