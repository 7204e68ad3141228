"""`kiln report`: a batch's id in; the morning's report in a file out."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from client.api import Kiln
from client.batch import BatchId
from client.errors import InvalidUse
from client.generate import AsJson
from client.output import answering


class Form(StrEnum):
    """What the report can be."""

    HTML = "html"
    CSV = "csv"
    JSON = "json"


def report(
    batch_id: BatchId,
    form: Annotated[
        Form, typer.Option("--format", help="A page, a line for each picture, or the figures.")
    ] = Form.HTML,
    output: Annotated[Path | None, typer.Option(help="The file.  [default: ID.html in this folder]")] = None,
    as_json: AsJson = False,
) -> None:
    """Save the morning's report on a batch: contact sheet, scores, what failed, and what it took.

    The page is one file that needs no network to open. It tells of what is over by now.
    """
    with answering(as_json) as out, Kiln() as kiln:
        content = kiln.report(batch_id, form.value)
        path = output or Path(f"{batch_id}.{form}")
        try:
            path.write_bytes(content)
        except OSError as error:
            raise InvalidUse(f"{path} cannot be written: {error.strerror}.") from error
        out.answer({"id": batch_id, "file": str(path), "bytes": len(content)}, str(path))
