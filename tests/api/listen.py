"""A client of the API's streams that knows Server-Sent Events only as their specification tells them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.api.conftest import Api


@dataclass(slots=True)
class Frame:
    """One frame as it came."""

    event: str
    id: int | None
    data: dict[str, Any]


@dataclass(slots=True)
class Listener:
    """An open stream: frames are read as they are asked for."""

    answer: httpx2.Response
    _lines: Iterator[str] = field(init=False)

    def __post_init__(self) -> None:
        assert self.answer.status_code == 200, self.answer.read()
        assert self.answer.headers["content-type"].startswith("text/event-stream")
        self._lines = self.answer.iter_lines()

    def next(self) -> Frame:
        """The next frame; fails where the stream ends instead."""
        frame = next(self.frames(), None)
        assert frame is not None, "the stream has ended"
        return frame

    def until(self, event: str) -> Frame:
        """The next frame of this kind; those before it are passed by."""
        return next(frame for frame in self.frames() if frame.event == event)

    def frames(self) -> Iterator[Frame]:
        """All that comes, to the end of the stream."""
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                number = fields.get("id")
                yield Frame(fields["event"], int(number) if number else None, json.loads(fields["data"]))
                fields = {}


@contextmanager
def listening(api: Api, path: str, after: int | None = None, **query: Any) -> Iterator[Listener]:
    """The stream at ``path``, behind the event ``after``."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with api.stream(path, params=query, headers=headers) as answer:
        yield Listener(answer)


def heard(api: Api, path: str, after: int | None = None) -> list[Frame]:
    """What there is by now."""
    with listening(api, path, after, follow=False) as listener:
        return list(listener.frames())
