"""The lines of a body or a file in; a job as it was asked for, or what is wrong with it, out for each. Holds one."""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from pydantic import ValidationError

from api.errors import translate
from api.orders import Line
from api.resolve import plain_text
from api.schemas import JobRequest
from common.errors import FieldError, InvalidRequest, MalformedBody

MAX_CUSTOM_ID = 200  # characters
MAX_ERRORS = 20  # told of one batch
MOST_WRONG = 1000  # places of one line that are named
MAX_LINE = 1 << 20  # characters
MAX_LINES = 1_000_000  # empty ones included
OF_THE_BATCH = ("lane", "not_before", "deadline", "webhook")
SAID_ONCE = "is said once, for the whole batch"


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


def read_ndjson(file: BinaryIO) -> Iterator[Found]:
    """Raises MalformedBody where the file is no UTF-8, InvalidRequest where it is not to be read to its end."""
    for number, line in numbered(file):
        yield _check_line(partial(Line.model_validate_json, line), number)


def read_csv(file: BinaryIO) -> Iterator[Found]:
    """Cells are read as their fields are; an empty one is the default. Raises MalformedBody."""
    with _as_text(file, newline="") as text:
        row_lines = _RowLines(text)
        rows = csv.DictReader(row_lines, strict=True)
        try:
            header = rows.fieldnames or []
            if wrong := _check_header(header):
                yield wrong
                return
            for row in rows:
                row_lines.taken = 0
                if None in row or None in row.values():  # csv's way to say that there are more, or fewer
                    yield (FieldError(f"/lines/{rows.line_num}", f"must have {len(header)} values, as the header has"),)
                    continue
                given = {name: cell for name, cell in row.items() if cell != ""}
                yield _check_line(partial(Line.model_validate_strings, given), rows.line_num)
        except csv.Error as error:
            yield (FieldError(f"/lines/{rows.reader.line_num}", f"is not CSV: {error}"),)


def numbered(file: BinaryIO) -> Iterator[tuple[int, str]]:
    """The lines that have something in them, with their numbers. Raises as read_ndjson does."""
    with _as_text(file, newline="\n") as text:
        number = 0
        while line := text.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                error = FieldError(f"/lines/{number}", f"must have at most {MAX_LINE} characters")
                raise InvalidRequest(f"lines/{number} {error.detail}", (error,))
            if number > MAX_LINES:
                raise InvalidRequest(f"there are over {MAX_LINES} lines")
            if not line.isspace():
                yield number, line


class _RowLines:
    """Lines for csv, as long as all that it takes for one row, empty lines before it included, stays short."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.taken = 0  # characters since the last row

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MAX_LINE):
            self.taken += len(line)
            if self.taken > MAX_LINE:
                raise csv.Error(f"a row has more than {MAX_LINE} characters")
            yield line


@contextmanager
def _as_text(file: BinaryIO, newline: str) -> Iterator[io.TextIOWrapper]:
    _check_utf8(file)
    text = io.TextIOWrapper(file, "utf-8-sig", newline=newline)
    try:
        yield text
    finally:
        text.detach()  # the file is not ours to close


def _check_utf8(file: BinaryIO) -> None:
    """Raise MalformedBody with the place of the first byte that is none; the file is at its start again after."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    try:
        while chunk := file.read(1 << 16):
            offset -= len(decoder.getstate()[0])  # what it keeps of the chunk before
            decoder.decode(chunk)
            offset = file.tell()
        offset -= len(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8 at byte {offset + error.start}") from error
    file.seek(0)


def _check_header(header: Sequence[str]) -> tuple[FieldError, ...]:
    unknown = [name for name in header if name not in Line.model_fields][:MAX_ERRORS]
    errors = [FieldError("/lines/1", f"has a column that is no field of a job: {name[:80]!r}") for name in unknown]
    if "prompt" not in header:
        said = "has no column prompt" if header else "is empty, and should be a header with a column prompt"
        errors.append(FieldError("/lines/1", said))
    return tuple(errors)


def _check_line(read: Callable[[], Line], number: int) -> Found:
    try:
        line = read()
    except ValidationError as error:
        return wrong_fields(error, f"/lines/{number}")
    wrong = [FieldError(f"/lines/{number}/{name}", SAID_ONCE) for name in OF_THE_BATCH if getattr(line, name)]
    wrong += plain_text(f"lines/{number}/custom_id", line.custom_id or "", MAX_CUSTOM_ID)
    if wrong:
        return tuple(wrong)
    return Asked(line, f"/lines/{number}", custom_id=line.custom_id)


def wrong_fields(error: ValidationError, where: str) -> tuple[FieldError, ...]:
    """Pydantic's findings in what stands at ``where``; only their number where there are more than anybody reads."""
    if error.error_count() > MOST_WRONG:
        return (FieldError(where, f"is wrong in {error.error_count()} places"),)
    return tuple(FieldError(f"{where}{one.pointer}", one.detail) for one in translate(error.errors()))
