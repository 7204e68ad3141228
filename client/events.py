"""A stream's path in, its events out: Server-Sent Events as the API sends them, over one connection."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from client.errors import Unreachable
from client.transport import Transport

SILENCE_SECONDS = 20.0  # the API gives a sign of life every 15


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a job: ``name`` says what, ``data`` whose. A change of state has an ``id``, to go on behind."""

    name: str
    data: dict[str, Any]
    id: str | None


def listen(api: Transport, path: str, after: str | None, silence: float = SILENCE_SECONDS) -> Iterator[Event | None]:
    """The events of one connection, behind the one with the id ``after``; None for a mere sign of life.

    Raises KilnApiError, and Unreachable where the connection breaks or is silent for ``silence`` seconds.
    """
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
    with api.lines(path, headers=headers, silence=silence) as lines:
        yield from _parse(lines)


def _parse(lines: Iterator[str]) -> Iterator[Event | None]:
    """By the HTML standard, section 9.2.6, as far as the API makes use of it."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield None
        elif line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if "data" in fields:
                yield Event(fields.get("event", "message"), _object(fields["data"]), fields.get("id"))
            fields = {}


def _object(data: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unreachable("What answers there is not Kiln; is this the right address?")
    return found
