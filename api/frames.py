"""Changes of state, and what workers tell, in; frames of Server-Sent Events out. Touches nothing outside."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi.sse import ServerSentEvent

from api.views import show_image
from common.errors import NotFound
from common.ids import parse_id, show_id
from common.jobs.log import Event
from common.jobs.read import Image
from common.jobs.state import TERMINAL
from common.objects import Objects

SHOWN = ("stage", "progress", "preview")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, made once for all who are sent it. Only one of the event log has an ``id``."""

    event: str
    data: str
    job_id: UUID
    batch_id: UUID | None
    id: int | None = None

    @property
    def ends(self) -> bool:
        """Whether its job is over with it."""
        return self.id is not None and self.event in TERMINAL

    def sent(self) -> ServerSentEvent:
        return ServerSentEvent(raw_data=self.data, event=self.event, id=None if self.id is None else str(self.id))


def tell_event(event: Event, images: Sequence[Image], objects: Objects, url_seconds: int) -> list[Frame]:
    """The change of state, after the pictures that came of it."""
    names = _names(event.job_id, event.batch_id)
    shown = [show_image(image, objects=objects, url_seconds=url_seconds).model_dump(mode="json") for image in images]
    frames = [Frame("image", json.dumps({**names, "image": image}), event.job_id, event.batch_id) for image in shown]
    at = event.at.isoformat().replace("+00:00", "Z")
    state = {**names, "status": event.status.value, "attempt": event.attempt, "at": at}
    return [*frames, Frame(event.status.value, json.dumps(state), event.job_id, event.batch_id, event.id)]


def tell_news(message: Mapping[str, Any]) -> Frame | None:
    """What a worker told; None where it is not for showing, or makes no sense."""
    try:
        event, data = message["event"], dict(message["data"])
        job_id = parse_id("job", data["job_id"])
        batch_id = parse_id("batch", data["batch_id"]) if data["batch_id"] else None
    except (KeyError, TypeError, ValueError, AttributeError, NotFound):
        return None
    return Frame(event, json.dumps(data), job_id, batch_id) if event in SHOWN else None


def _names(job_id: UUID, batch_id: UUID | None) -> dict[str, str | None]:
    return {"job_id": show_id("job", job_id), "batch_id": show_id("batch", batch_id) if batch_id else None}
