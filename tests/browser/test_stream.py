"""The page's reader of events: frames in any pieces, breaks of the connection, and servers that have none."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from playwright.sync_api import Page

from api.page import STATIC
from tests.browser.conftest import PATIENCE, Opener


class Broken(BaseHTTPRequestHandler):
    """Serves the page's modules, and events that break off after each connection's share."""

    shares: ClassVar[list[bytes]] = [
        b': ping\n\nid: 7\nevent: queued\ndata: {"job_id": "job_1",\ndata:  "n": 1}\n\n',
        b'event: progress\r\ndata: {"n": 2}\r\n\r\nid: 8\nevent: running\ndata: {"n": 3}\n\nid: 9\nevent: half',
        b'id: 9\nevent: succeeded\ndata: {"n": 4}\n\n',
    ]
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        if self.path.startswith("/static/"):
            self.answer((STATIC / self.path.removeprefix("/static/")).read_bytes(), "text/javascript")
        elif self.path == "/v1/events" and len(self.asked) < len(self.shares):
            self.asked.append(self.headers.get("Last-Event-ID"))
            self.answer(self.shares[len(self.asked) - 1], "text/event-stream")
        elif self.path == "/":
            self.answer(b"<!doctype html><title>page</title><link rel=icon href=data:,>", "text/html")
        else:
            self.send_error(404)

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in range(0, len(body), 5 if kind == "text/event-stream" else len(body)):
            self.wfile.write(body[byte : byte + (5 if kind == "text/event-stream" else len(body))])
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """The test looks at what the page heard."""


@pytest.fixture
def page(opened: Opener) -> Iterator[Page]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield opened(f"http://127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_stream_that_breaks_goes_on_behind_its_last_whole_event_until_there_is_none(page: Page) -> None:
    heard = page.evaluate(
        """async () => {
            const { follow } = await import("/static/stream.js");
            const heard = [], states = [];
            await follow("/v1/events", {
              onEvent: (name, data) => heard.push([name, data.n]), onState: (open) => states.push(open), pause: 20 });
            return { heard, states };
        }""",
    )
    assert heard["heard"] == [["queued", 1], ["progress", 2], ["running", 3], ["succeeded", 4]]
    assert heard["states"] == [True, False] * 3 + [False]
    assert Broken.asked == [None, "7", "8"]


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("data: a\n\n", [["message", "a"]]),
        ("data:a\ndata\ndata: b\n\n", [["message", "a\n\nb"]]),
        ("event: x\n\ndata: a\n\n", [["message", "a"]]),
        (": only a comment\n\n", []),
        ("data: a\r\rdata: b\r\n\r\n", [["message", "a"], ["message", "b"]]),
        ("data: ünïcode 🔥\n\n", [["message", "ünïcode 🔥"]]),
        ("data: never ended\n", []),
    ],
)
@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_frames_are_read_whatever_pieces_they_come_in(
    page: Page, text: str, frames: list[list[str]], pieces: int
) -> None:
    page.set_default_timeout(PATIENCE)
    found = page.evaluate(
        """async ([text, size]) => {
            const { Frames } = await import("/static/sse.js");
            const frames = new Frames(), found = [];
            for (let at = 0; at < text.length; at += size) found.push(...frames.push(text.slice(at, at + size)));
            return found.map(({ event, data }) => [event, data]);
        }""",
        [text, pieces],
    )
    assert json.loads(json.dumps(found)) == frames
