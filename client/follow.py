"""A job's or a batch's path in; its events, or how it stands, out, until it is over. By events, else by asking."""

import time
from collections.abc import Iterator
from typing import Any

import httpx2
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from client.errors import KilnApiError, Unreachable
from client.events import SILENCE_SECONDS, Event, listen
from client.transport import Transport, answered_object, retry_after

FINISHED = frozenset({"succeeded", "failed", "canceled", "expired"})

_PATIENCE = 60  # seconds for which a waiting client bears an API that is away
_FRESH = 1.0  # seconds for which an answer, kept up with by events, is as good as a new one
_TRIES = 3  # that nothing was heard in, before an API is taken for one without events, or one whose proxy keeps them


class Follower:
    """Iterating gives how it stands whenever there is news, until it is over or ``timeout`` seconds are up."""

    def __init__(self, api: Transport, path: str, timeout: float | None) -> None:
        self._api = api
        self._path = path
        self._timeout = timeout
        self._start = self._asked_at = time.monotonic()
        self._pause = 0.0  # that the API asks for
        self._after: str | None = None
        self._tries = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        first = True
        while first or not self._is_late:
            yield (thing := self._ask(patient=not first))
            first = False
            if is_over(thing):
                return
            if self._tries < _TRIES:
                for newer in self._listen(thing):
                    yield newer
                    if is_over(newer):
                        return
            if self._tries and not self._is_late:
                time.sleep(pause_between_polls(self._waited, self._pause, self._timeout))

    @property
    def _waited(self) -> float:
        return time.monotonic() - self._start

    @property
    def _is_late(self) -> bool:
        return self._timeout is not None and self._waited >= self._timeout

    def _ask(self, *, patient: bool = True) -> dict[str, Any]:
        """How it stands now."""
        answer = ask_patiently(self._api, self._path) if patient else self._api.call("GET", self._path)
        self._asked_at, self._pause = time.monotonic(), retry_after(answer) or 0.0
        return answered_object(answer)

    def _listen(self, thing: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The same, kept up with by the events of one connection. Ends with it, and where there are no events."""
        self._tries += 1
        left = SILENCE_SECONDS if self._timeout is None else max(0.01, self._timeout - self._waited)
        try:
            for event in listen(self._api, f"{self._path}/events", self._after, min(left, SILENCE_SECONDS)):
                self._tries = 0
                if event and event.id:
                    self._after = event.id
                if event is None or event.name in FINISHED or time.monotonic() - self._asked_at > _FRESH:
                    yield (thing := self._ask())
                elif "stage" in thing:
                    yield (thing := keep_up(thing, event))
                if self._is_late:
                    return
        except KilnApiError:
            self._tries = _TRIES  # it has no events
        except Unreachable:
            pass  # that the API is away, asking tells


def every_event(api: Transport, path: str, after: str | None) -> Iterator[Event]:
    """The events of a job, of a batch or, at ``/v1``, of all, over as many connections as it takes.

    Raises KilnApiError where the API refuses, Unreachable where it stays away.
    """
    over = False
    while True:
        try:
            for event in listen(api, f"{path}/events", after):
                if event:
                    after = event.id or after
                    yield event
            if over:
                return
        except KilnApiError as error:
            if error.retry_after is None:
                raise
        except Unreachable:
            pass
        answer = ask_patiently(api, "/v1/queue" if path == "/v1" else path)
        over = path != "/v1" and is_over(answered_object(answer))  # the log may not have told it yet


def ask_patiently(api: Transport, path: str) -> httpx2.Response:
    """The answer of an API that may be away for a while."""
    stop = stop_after_delay(_PATIENCE)
    attempts = Retrying(retry=retry_if_exception_type(Unreachable), stop=stop, wait=wait_fixed(1), reraise=True)
    return attempts(api.call, "GET", path)


def is_over(thing: dict[str, Any]) -> bool:
    """Whether nothing more becomes of this job, or batch."""
    if "counts" in thing:
        return not (thing["counts"]["queued"] or thing["counts"]["running"])
    return thing["status"] in FINISHED


def keep_up(job: dict[str, Any], event: Event) -> dict[str, Any]:
    """The job after the event, as far as that tells."""
    match event.name:
        case "queued" | "running":
            return {**job, "status": event.name, "stage": None, "attempt": event.data["attempt"]}
        case "stage":
            return {**job, "status": "running", "stage": event.data["stage"]}
        case "progress":
            old, new = job["progress"], event.data["progress"]
            left = (new["total"] - new["done"]) / max(1, old["total"] - old["done"])
            eta = None if job["eta_seconds"] is None else round(job["eta_seconds"] * min(1.0, left), 1)
            return {**job, "progress": new, "eta_seconds": eta}
        case _:
            return job


def pause_between_polls(waited: float, asked: float | None, timeout: float | None) -> float:
    """Seconds: a twentieth of those waited so far (0.1 to 2), what the API asked for, or what the timeout leaves."""
    pause = max(min(waited / 20, 2.0), 0.1, asked or 0.0)
    return pause if timeout is None else max(0.0, min(pause, timeout - waited))
