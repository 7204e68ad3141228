"""The Python client: a prompt in, a job and its pictures out. Talks to one Kiln API over HTTP.

with Kiln() as kiln:
    job = kiln.wait(kiln.submit("a lighthouse in fog", style="anime")["id"])
    picture = kiln.image(job["images"][0])
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

from client.address import find_api
from client.errors import DamagedPicture, Unreachable
from client.events import Event
from client.follow import Follower, every_event, is_over
from client.transport import Transport, answered_object

Job = dict[str, Any]  # a job as the API tells it; docs at <API>/docs
Batch = dict[str, Any]

_PAGE = 100  # jobs asked for at once
_CHOOSING = 60  # seconds that the choice of a batch's best may take


class Kiln:
    """One Kiln API. Without arguments: KILN_API_URL and KILN_API_KEY, else what `kiln up` started here.

    Every method raises KilnApiError when the API refuses, and Unreachable when it cannot be reached.
    """

    def __init__(self, base_url: str | None = None, api_key: str | None = None) -> None:
        self._api = Transport(find_api(base_url), api_key or os.environ.get("KILN_API_KEY") or None)
        self.base_url = self._api.base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._api.close()

    def submit(self, prompt: str, **fields: Any) -> Job:
        """Queue one job and return it. ``fields`` are those of POST /v1/jobs; what is left out gets its default."""
        return self._create("/v1/jobs", {"prompt": prompt, **fields})

    def job(self, job_id: str) -> Job:
        """The job as it is now."""
        return self._read(_path(job_id))

    def jobs(
        self,
        status: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        batch_id: str | None = None,
    ) -> Iterator[Job]:
        """Jobs in the API's order, at most ``limit``, fetched page by page; ``after`` is the last id already seen."""
        wanted = {"status": status, "limit": min(limit or _PAGE, _PAGE), "after": after, "batch_id": batch_id}
        return islice(self._pages("/v1/jobs", wanted), limit)

    def cancel(self, job_id: str) -> Job:
        """Ask that the job stops. A finished job is returned as it is."""
        return answered_object(self._api.call("POST", f"{_path(job_id)}/cancel"))

    def retry(self, job_id: str, **overrides: Any) -> Job:
        """Queue a new job with the input of another, changed by ``overrides``."""
        return self._create(f"{_path(job_id)}/retry", overrides)

    def delete(self, job_id: str) -> None:
        """Remove a finished job and its pictures."""
        self._api.call("DELETE", _path(job_id))

    def submit_batch(self, lines: bytes, *, as_csv: bool = False, **options: Any) -> Batch:
        """Queue a job for each line of NDJSON or CSV, all or none. ``options`` are those of POST /v1/batches.

        With ``dry_run`` nothing is queued, and what comes back is what it would be.
        """
        headers = {"Content-Type": "text/csv" if as_csv else "application/x-ndjson", **_once()}
        params = {name: value for name, value in options.items() if value is not None}
        return answered_object(self._api.call("POST", "/v1/batches", params=params, content=lines, headers=headers))

    def batch(self, batch_id: str) -> Batch:
        """The batch as it is now."""
        return self._read(_batch_path(batch_id))

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        """Batches, the newest first."""
        return islice(self._pages("/v1/batches", {"limit": min(limit or _PAGE, _PAGE)}), limit)

    def steer(self, batch_id: str, call: Literal["pause", "resume", "cancel", "retry-failed"]) -> Batch:
        """Pause, resume, cancel a batch, or try again what failed of it."""
        return answered_object(self._api.call("POST", f"{_batch_path(batch_id)}/{call}"))

    def results(self, batch_id: str) -> Iterator[Job]:
        """The jobs of a batch that are over, in the order in which they were asked for."""
        with self._api.lines(f"{_batch_path(batch_id)}/results") as lines:
            yield from map(json.loads, lines)

    def report(self, batch_id: str, form: Literal["html", "csv", "json"] = "html") -> bytes:
        """The morning's report on a batch, as a file. Raises as above."""
        return self._api.call("GET", f"{_batch_path(batch_id)}/report", params={"format": form}).content

    def wait(self, job_id: str, on_update: Callable[[Job], object] | None = None, timeout: float | None = None) -> Job:
        """The job once it is finished; ``on_update`` sees every answer. Raises TimeoutError after ``timeout`` s."""
        for job in Follower(self._api, _path(job_id), timeout):
            if on_update:
                on_update(job)
        if is_over(job):
            return job
        raise TimeoutError(f"Job {job_id} is still {job['status']} (stage {job['stage']}); it goes on.")

    def wait_batch(self, batch_id: str, on_update: Callable[[Batch], object] | None = None) -> Batch:
        """The batch once all its jobs are over, and its best are kept; ``on_update`` sees every answer."""
        for batch in Follower(self._api, _batch_path(batch_id), None):
            if on_update:
                on_update(batch)
        give_up_at = time.monotonic() + _CHOOSING  # without a sweeper nobody chooses
        while batch.get("keep_best") and not batch["best_kept_at"] and time.monotonic() < give_up_at:
            time.sleep(0.5)
            batch = self.batch(batch_id)
        return batch

    def events(
        self, job_id: str | None = None, *, batch_id: str | None = None, after: str | None = None
    ) -> Iterator[Event]:
        """What becomes of a job, of a batch's jobs, or of all yours, while it happens; of the first two, to their end.

        A job's events are told from the first one on, others from now on; with ``after``, an event's id, from there on.
        A connection that breaks is made again, and no change of state is missed or told twice.
        """
        return every_event(self._api, _path(job_id) if job_id else _batch_path(batch_id) if batch_id else "/v1", after)

    def image(self, image: dict[str, Any]) -> bytes:
        """The bytes of one of a job's ``images``. Raises DamagedPicture when they are not those of its sha256."""
        path = f"/v1/images/{quote(image['id'], safe='')}/content"
        try:
            content = self._api.call("GET", path, follow=True).content
        except Unreachable:  # the storage may be out of this client's reach, but never out of the API's
            content = self._api.call("GET", path, params={"proxy": 1}).content
        found = hashlib.sha256(content).hexdigest()
        if found != image["sha256"]:
            raise DamagedPicture(f"Picture {image['id']} arrived damaged: sha256 {found}, not {image['sha256']}.")
        return content

    def models(self) -> dict[str, Any]:
        return self._read("/v1/models")

    def styles(self) -> dict[str, Any]:
        return self._read("/v1/styles")

    def schedulers(self) -> dict[str, Any]:
        return self._read("/v1/schedulers")

    def defaults(self) -> dict[str, Any]:
        return self._read("/v1/defaults")

    def queue(self) -> dict[str, Any]:
        return self._read("/v1/queue")

    def workers(self) -> dict[str, Any]:
        return self._read("/v1/workers")

    def ready(self) -> dict[str, Any]:
        """What /readyz says, whether or not it is ready."""
        return answered_object(self._api.call("GET", "/readyz", accept=(503,)))

    def _read(self, path: str) -> dict[str, Any]:
        return answered_object(self._api.call("GET", path))

    def _create(self, path: str, body: dict[str, Any]) -> Job:
        return answered_object(self._api.call("POST", path, body=body, headers=_once()))

    def _pages(self, path: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
        params = {name: value for name, value in wanted.items() if value is not None}
        while True:
            page = answered_object(self._api.call("GET", path, params=params))
            yield from page["data"]
            if not page["has_more"]:
                return
            params["after"] = page["last_id"]


def _once() -> dict[str, str]:
    """The key that makes a call safe to repeat: an answer lost on the way never makes a second job."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _batch_path(batch_id: str) -> str:
    return f"/v1/batches/{quote(batch_id, safe='')}"
