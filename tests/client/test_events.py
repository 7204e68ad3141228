"""Events through the Python client: over broken connections, and without them where an API has none."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from client.api import Kiln
from client.errors import KilnApiError
from client.events import Event
from client.follow import keep_up
from tests.proxy import proxied
from tests.unit.test_progress import DIFFUSING, QUEUED


def test_a_jobs_events_are_told_to_its_end_over_connections_that_break(api: Kiln) -> None:
    job = api.submit("a cat that is watched", num_inference_steps=60)
    address, cut = urlsplit(api.base_url), 0
    told: list[Event] = []
    with (
        proxied(str(address.hostname), int(address.port or 80)) as proxy,
        Kiln(f"http://127.0.0.1:{proxy.port}") as client,
    ):
        for event in client.events(job["id"]):
            told.append(event)
            if event.name in ("running", "progress") and cut < 3:
                cut += 1
                proxy.become("cut", later="pass")
    assert cut == 3
    assert [event.name for event in told if event.id] == ["queued", "running", "succeeded"]
    assert [event.data["image"]["id"] for event in told if event.name == "image"] == [
        image["id"] for image in api.job(job["id"])["images"]
    ]
    assert [event.name for event in api.events(job["id"], after=told[0].id)][-1] == "succeeded"


def test_a_batchs_events_end_with_the_batch(api: Kiln) -> None:
    lines = b"".join(json.dumps({"prompt": f"cat {n}", "num_inference_steps": 2}).encode() + b"\n" for n in range(3))
    batch = api.submit_batch(lines, name="watched")
    ends = [event for event in api.events(batch_id=batch["id"]) if event.name == "succeeded"]
    assert len(ends) <= 3
    assert api.batch(batch["id"])["counts"]["succeeded"] == 3


def test_events_of_a_job_that_is_not_there_are_refused(api: Kiln) -> None:
    with pytest.raises(KilnApiError, match="there is no job"):
        list(api.events(f"job_{'0' * 32}"))


def test_an_api_without_events_is_asked_again_and_again() -> None:
    with answering(["queued", "running", "running", "succeeded"]) as (url, asked), Kiln(url) as client:
        seen: list[str] = []
        assert client.wait("job_1", on_update=lambda job: seen.append(job["status"]))["status"] == "succeeded"
    assert seen == ["queued", "running", "running", "succeeded"]
    assert asked.count("/v1/jobs/job_1/events") == 1, "it said that there are none"


def test_a_job_is_kept_up_with_between_two_answers() -> None:
    running = keep_up(QUEUED, Event("running", {"attempt": 1}, "7"))
    assert (running["status"], running["attempt"]) == ("running", 1)
    assert keep_up(running, Event("stage", {"stage": "enhance"}, None))["stage"] == "enhance"
    further = keep_up(DIFFUSING, Event("progress", {"progress": {"done": 15, "total": 20, "percent": 75.0}}, None))
    assert (further["progress"]["done"], further["eta_seconds"]) == (15, 2.5)
    assert keep_up(DIFFUSING, Event("preview", {"index": 0, "image": "data:"}, None)) == DIFFUSING


@contextmanager
def answering(statuses: list[str]) -> Iterator[tuple[str, list[str]]]:
    """An API of the version before, whose job goes through these states; and the paths that it was asked for."""
    asked: list[str] = []

    class Before(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            here = self.path == "/v1/jobs/job_1"
            body = json.dumps({"status": statuses.pop(0)} if here else {"detail": "Not Found"}).encode()
            self.send_response(200 if here else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """It has nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Before)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
