"""What became of a batch that was made of a file: its id in, a line for each job that is over out. Streams the store.

Nothing is stored for it. An output file has the jobs that succeeded, an error file all others that are over.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api.compat.answer import show_bytes, show_urls
from api.compat.shapes import File
from api.kiln import Kiln
from common.errors import NotFound
from common.ids import parse_id, show_id
from common.jobs.read import Job, each_ended
from common.jobs.state import Status
from common.jobs.tally import Batch, get_batch

OUTPUT, ERRORS = "output", "errors"  # what the ids of the two begin with
ENDINGS = {
    Status.CANCELED: ("batch_cancelled", "the batch, or this line of it, was cancelled"),
    Status.EXPIRED: ("batch_expired", "the completion window ended before this line was begun"),
}


@dataclass(frozen=True, slots=True)
class Results:
    """The output file of a batch, or its error file."""

    kind: str
    batch: Batch

    def show(self) -> File:
        return File(
            id=show_id(self.kind, self.batch.id),
            bytes=None,
            created_at=int((self.batch.finished_at or self.batch.created_at).timestamp()),
            filename=f"{show_id('batch', self.batch.id)}_{self.kind}.jsonl",
            purpose="batch_output",
        )

    def lines(self, kiln: Kiln) -> Iterator[str]:
        wanted = self.kind == OUTPUT
        for job in each_ended(kiln.engine, self.batch.owner, self.batch.id):
            if (job.status is Status.SUCCEEDED) == wanted:
                yield json.dumps(_line(kiln, job), separators=(",", ":")) + "\n"


def find(kiln: Kiln, owner: str, file_id: str) -> Results | None:
    """The results that ``file_id`` names; None where it names a file. Raises NotFound where the owner has none such."""
    kind = file_id.partition("_")[0]
    if kind not in (OUTPUT, ERRORS):
        return None
    batch = get_batch(kiln.engine, owner, parse_id(kind, file_id), alive_seconds=kiln.settings.lease_seconds)
    if batch is None or batch.input_file_id is None:
        raise NotFound(f"there is no file {file_id}")
    return Results(kind, batch)


def _line(kiln: Kiln, job: Job) -> dict[str, Any]:
    name = show_id("job", job.id)
    line: dict[str, Any] = {"id": name, "custom_id": job.custom_id, "response": None, "error": None}
    if job.status is Status.SUCCEEDED:
        show = show_urls if job.metadata.get("response_format") == "url" else show_bytes
        pictures = show(kiln, job)
        body = pictures.model_dump(exclude_none=True)
        return line | {"response": {"status_code": 200, "request_id": name, "body": body}}
    failed = job.error or {}
    code, message = ENDINGS.get(job.status) or (failed.get("code"), failed.get("message"))
    return line | {"error": {"code": code, "message": message}}
