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

import httpx2
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from client.address import find_api
from client.errors import DamagedPicture, Unreachable
from client.transport import Transport, retry_after

Job = dict[str, Any]  # a job as the API tells it; docs at <API>/docs
Batch = dict[str, Any]

FINISHED = frozenset({"succeeded", "failed", "canceled", "expired"})

_PAGE = 100  # jobs asked for at once
_PATIENCE = 60  # seconds for which a waiting client bears an API that is away


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
        return _object(self._api.call("POST", f"{_path(job_id)}/cancel"))

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
        return _object(self._api.call("POST", "/v1/batches", params=params, content=lines, headers=headers))

    def batch(self, batch_id: str) -> Batch:
        """The batch as it is now."""
        return self._read(_batch_path(batch_id))

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        """Batches, the newest first."""
        return islice(self._pages("/v1/batches", {"limit": min(limit or _PAGE, _PAGE)}), limit)

    def steer(self, batch_id: str, call: Literal["pause", "resume", "cancel", "retry-failed"]) -> Batch:
        """Pause, resume, cancel a batch, or try again what failed of it."""
        return _object(self._api.call("POST", f"{_batch_path(batch_id)}/{call}"))

    def results(self, batch_id: str) -> Iterator[Job]:
        """The jobs of a batch that are over, in the order in which they were asked for."""
        with self._api.lines(f"{_batch_path(batch_id)}/results") as lines:
            yield from map(json.loads, lines)

    def report(self, batch_id: str, form: Literal["html", "csv", "json"] = "html") -> bytes:
        """The morning's report on a batch, as a file. Raises as above."""
        return self._api.call("GET", f"{_batch_path(batch_id)}/report", params={"format": form}).content

    def wait(self, job_id: str, on_update: Callable[[Job], object] | None = None, timeout: float | None = None) -> Job:
        """The job once it is finished; ``on_update`` sees every answer. Raises TimeoutError after ``timeout`` s."""
        for job in self._follow(_path(job_id), timeout):
            if on_update:
                on_update(job)
            if job["status"] in FINISHED:
                return job
        raise TimeoutError(f"Job {job_id} is still {job['status']} (stage {job['stage']}); it goes on.")

    def wait_batch(self, batch_id: str, on_update: Callable[[Batch], object] | None = None) -> Batch:
        """The batch once all its jobs are over, and its best are kept; ``on_update`` sees every answer."""
        over_since = None
        for batch in self._follow(_batch_path(batch_id), None):
            if on_update:
                on_update(batch)
            if batch["counts"]["queued"] or batch["counts"]["running"]:
                continue
            over_since = over_since or time.monotonic()
            kept = batch["keep_best"] is None or batch["best_kept_at"]
            if kept or time.monotonic() - over_since > _PATIENCE:  # without a sweeper nobody chooses
                break
        return batch

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
        return _object(self._api.call("GET", "/readyz", accept=(503,)))

    def _follow(self, path: str, timeout: float | None) -> Iterator[dict[str, Any]]:
        """What stands there, again and again, until the time is up. An API that is away for a while is waited for."""
        start, answer = time.monotonic(), self._api.call("GET", path)
        patient = Retrying(
            retry=retry_if_exception_type(Unreachable),
            stop=stop_after_delay(_PATIENCE),
            wait=wait_fixed(1),
            reraise=True,
        )
        while True:
            yield _object(answer)
            waited = time.monotonic() - start
            if timeout is not None and waited >= timeout:
                return
            time.sleep(pause_between_polls(waited, retry_after(answer), timeout))
            answer = patient(self._api.call, "GET", path)

    def _read(self, path: str) -> dict[str, Any]:
        return _object(self._api.call("GET", path))

    def _create(self, path: str, body: dict[str, Any]) -> Job:
        return _object(self._api.call("POST", path, body=body, headers=_once()))

    def _pages(self, path: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
        params = {name: value for name, value in wanted.items() if value is not None}
        while True:
            page = _object(self._api.call("GET", path, params=params))
            yield from page["data"]
            if not page["has_more"]:
                return
            params["after"] = page["last_id"]


def _once() -> dict[str, str]:
    """The key that makes a call safe to repeat: an answer lost on the way never makes a second job."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def pause_between_polls(waited: float, asked: float | None, timeout: float | None) -> float:
    """Seconds: a twentieth of those waited so far (0.1 to 2), what the API asked for, or what the timeout leaves."""
    pause = max(min(waited / 20, 2.0), 0.1, asked or 0.0)
    return pause if timeout is None else min(pause, timeout - waited)


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _batch_path(batch_id: str) -> str:
    return f"/v1/batches/{quote(batch_id, safe='')}"


def _object(answer: httpx2.Response) -> dict[str, Any]:
    try:
        data = answer.json()
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Unreachable(f"What answers at {answer.url.copy_with(query=None)} is not Kiln; is this the right address?")
    return data
