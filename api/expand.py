"""A batch as it was sent in; one Submission for each of its jobs out. InvalidRequest names the line, or the field."""

import csv
import io
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from api.errors import translate
from api.orders import BatchRequest, Line, LineOptions
from api.resolve import plain_text, resolve
from api.schemas import JobRequest
from common.errors import FieldError, InvalidRequest, MalformedBody
from common.jobs.spec import MAX_SEED
from common.jobs.submit import Submission
from common.settings import Settings

MAX_CUSTOM_ID = 200  # characters
MAX_ERRORS = 20  # told of one batch
OF_THE_BATCH = ("lane", "not_before", "deadline", "webhook")
_SAID_ONCE = "is said once, for the whole batch"

# What the matrix calls the fields of a job, from the slowest to the fastest
AXES = {
    "prompts": "prompt",
    "styles": "style",
    "schedulers": "scheduler",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "seeds": "seed",
}

Cell = tuple[str, Any, str]  # field, value, and the pointer that names it


@dataclass(frozen=True, slots=True)
class Asked:
    """One job as it was asked for, and how to point at what is wrong with it."""

    job: JobRequest
    elsewhere: str  # the pointer of the place where its fields stand
    places: Mapping[str, str] = field(default_factory=dict)  # of fields that stand elsewhere
    custom_id: str | None = None

    def point(self, error: FieldError) -> FieldError:
        """The error of the job's own field, where the sender can find it."""
        _, name, *rest = error.pointer.split("/")
        place = self.places.get(name, f"{self.elsewhere}/{name}")
        return FieldError("/".join([place, *rest]), error.detail)


Found = Asked | tuple[FieldError, ...]  # a job, or what is wrong with it


def expand(request: BatchRequest, settings: Settings, owner: str) -> list[Submission]:
    """A job for every combination of the matrix, the last list changing fastest. Raises InvalidRequest."""
    return resolve_all(_combine(request, settings), settings, owner)


def read_lines(body: bytes, options: LineOptions, settings: Settings, owner: str, *, as_csv: bool) -> list[Submission]:
    """A job for each line of NDJSON, or each row of CSV under its header; for each style and seed of ``options``.

    Raises InvalidRequest.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8 at byte {error.start}") from error
    lines = _read_csv(text) if as_csv else _read_ndjson(text)
    return resolve_all(_multiply(lines, options), settings, owner)


def resolve_all(found: Iterable[Found], settings: Settings, owner: str) -> list[Submission]:
    """All jobs, or the first MAX_ERRORS of what is wrong with them."""
    submissions: list[Submission] = []
    errors: list[FieldError] = []
    names: set[str] = set()
    for asked in found:
        if len(errors) >= MAX_ERRORS:
            break
        if len(submissions) >= settings.max_batch_jobs:
            raise InvalidRequest(f"the batch has over {settings.max_batch_jobs} jobs")
        if isinstance(asked, tuple):
            errors += asked
            continue
        if asked.custom_id in names:
            errors.append(FieldError(f"{asked.elsewhere}/custom_id", "names another job of this batch, too"))
            continue
        if asked.custom_id:
            names.add(asked.custom_id)
        try:
            submission = resolve(asked.job, settings, owner=owner)
        except InvalidRequest as error:
            errors += [asked.point(one) for one in error.errors]
        else:
            submissions.append(replace(submission, custom_id=asked.custom_id) if asked.custom_id else submission)
    if errors:
        unique = tuple(dict.fromkeys(errors))[:MAX_ERRORS]  # a wrong style is wrong with every prompt
        raise InvalidRequest(f"{unique[0].pointer[1:]} {unique[0].detail}", unique)
    if not submissions:
        raise InvalidRequest("the batch has no jobs")
    return submissions


def _combine(request: BatchRequest, settings: Settings) -> Iterator[Found]:
    matrix, common = request.matrix, request.defaults.model_dump(exclude_none=True) if request.defaults else {}
    if wrong := [FieldError(f"/defaults/{name}", _SAID_ONCE) for name in OF_THE_BATCH if name in common]:
        yield tuple(wrong)
        return
    if matrix.seeds is not None and matrix.seeds_per_prompt is not None:
        yield (FieldError("/matrix/seeds_per_prompt", "cannot be given together with seeds"),)
        return
    prompts, *axes = [_axis(name, values) for name in AXES if (values := getattr(matrix, name))]
    for prompt in prompts:
        chosen = _choose_seeds(matrix.seeds_per_prompt, "/matrix/seeds_per_prompt")
        for cells in itertools.product([prompt], *axes, *filter(None, [chosen])):
            values = common | {name: value for name, value, _ in cells}
            yield Asked(JobRequest.model_construct(**values), "/defaults", {name: at for name, _, at in cells})


def _axis(name: str, values: list[Any]) -> list[Cell]:
    return [(AXES[name], value, f"/matrix/{name}/{place}") for place, value in enumerate(values)]


def _multiply(lines: Iterable[Found], options: LineOptions) -> Iterator[Found]:
    """Each line once for every style and seed; as it is, where there are none of these."""
    styles: list[Cell] = [("style", style, f"/styles/{place}") for place, style in enumerate(options.styles)]
    taken = [name for name, many in (("style", styles), ("seed", options.seeds_per_line)) if many]
    for line in lines:
        if isinstance(line, tuple) or not taken:
            yield line
        elif said := [name for name in taken if getattr(line.job, name) is not None]:
            yield tuple(FieldError(f"{line.elsewhere}/{name}", "is said for all lines in the query") for name in said)
        elif line.custom_id:
            yield (FieldError(f"{line.elsewhere}/custom_id", "can name one job only, and this line becomes several"),)
        else:
            seeds = _choose_seeds(options.seeds_per_line, "/seeds_per_line")
            for cells in itertools.product(*filter(None, [styles, seeds])):
                changes = {name: value for name, value, _ in cells}
                job = line.job.model_copy(update=changes)
                yield Asked(job, line.elsewhere, {name: at for name, _, at in cells})


def _choose_seeds(count: int | None, pointer: str) -> list[Cell]:
    return [("seed", secrets.randbelow(MAX_SEED + 1), pointer) for _ in range(count or 0)]


def _read_ndjson(text: str) -> Iterator[Found]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _check_line(partial(Line.model_validate_json, line), number)


def _read_csv(text: str) -> Iterator[Found]:
    """Cells are read as their fields are; an empty one is the default."""
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = rows.fieldnames or []
        if wrong := _check_header(header):
            yield wrong
            return
        for row in rows:
            if None in row or None in row.values():  # csv's way to say that there are more, or fewer
                yield (FieldError(f"/lines/{rows.line_num}", f"must have {len(header)} values, as the header has"),)
                continue
            given = {name: cell for name, cell in row.items() if cell != ""}
            yield _check_line(partial(Line.model_validate_strings, given), rows.line_num)
    except csv.Error as error:
        yield (FieldError(f"/lines/{rows.reader.line_num}", f"is not CSV: {error}"),)


def _check_header(header: Sequence[str]) -> tuple[FieldError, ...]:
    unknown = [name for name in header if name not in Line.model_fields]
    errors = [FieldError("/lines/1", f"has a column that is no field of a job: {name[:80]!r}") for name in unknown]
    if "prompt" not in header:
        said = "has no column prompt" if header else "is empty, and should be a header with a column prompt"
        errors.append(FieldError("/lines/1", said))
    return tuple(errors)


def _check_line(read: Callable[[], Line], number: int) -> Found:
    try:
        line = read()
    except ValidationError as error:
        return tuple(FieldError(f"/lines/{number}{one.pointer}", one.detail) for one in translate(error.errors()))
    wrong = [FieldError(f"/lines/{number}/{name}", _SAID_ONCE) for name in OF_THE_BATCH if getattr(line, name)]
    wrong += plain_text(f"lines/{number}/custom_id", line.custom_id or "", MAX_CUSTOM_ID)
    if wrong:
        return tuple(wrong)
    return Asked(line, f"/lines/{number}", custom_id=line.custom_id)
