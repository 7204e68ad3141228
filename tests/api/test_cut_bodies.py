"""A body that is cut off is no body: whatever was sent of it, nothing is stored, and its idempotency key is free."""

import json
import random
from dataclasses import dataclass, field
from typing import get_args

import httpx2
import pytest
from sqlalchemy import text

from common.db import transaction
from tests.api import wire
from tests.api.conftest import Api
from tests.processes import wait_for

TABLES = ("jobs", "batches", "files", "calls", "images", "events", "deliveries")
FORM = "multipart/form-data; boundary=frontier"


@dataclass(frozen=True)
class Kind:
    """A call with a body: where it goes, as what, and what the whole of it is answered."""

    path: str
    media_type: str
    body: bytes
    status: int = 202
    headers: dict[str, str] = field(default_factory=dict)


def form(lines: bytes) -> bytes:
    return (
        b'--frontier\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--frontier\r\n'
        b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + lines + b"\r\n--frontier--\r\n"
    )


def rows(count: int, words: int = 1) -> bytes:
    return b"".join(b"%scat %d\n" % (b"very " * words, number) for number in range(count))


def lines(count: int, words: int = 1) -> bytes:
    return b"".join(b'{"prompt": "%scat %d"}\n' % (b"very " * words, number) for number in range(count))


def matrix(count: int, words: int = 1) -> bytes:
    return json.dumps({"matrix": {"prompts": [f"{'very ' * words}cat {number}" for number in range(count)]}}).encode()


SMALL = {
    "job": Kind("/v1/jobs", "application/json", b'{"prompt": "a"}'),
    "retry": Kind("/v1/jobs/{job}/retry", "application/json", b'{"seed": 12}'),
    "matrix": Kind("/v1/batches", "application/json", matrix(3)),
    "ndjson": Kind("/v1/batches", "application/x-ndjson", lines(4)),
    "csv": Kind("/v1/batches", "text/csv", b"prompt\n" + rows(3)),
    "file": Kind("/v1/files", FORM, form(b'{"a": 1}\n'), status=200),
    "generation": Kind("/v1/images/generations", "application/json", b'{"prompt":"a"}', 408, {"Prefer": "wait=0"}),
}
LARGE = {
    "matrix": Kind("/v1/batches", "application/json", matrix(400, words=200)),
    "ndjson": Kind("/v1/batches", "application/x-ndjson", lines(400, words=200)),
    "csv": Kind("/v1/batches", "text/csv", b"prompt\n" + rows(400, words=200)),
    "file": Kind("/v1/files", FORM, form(lines(400, words=200)), status=200),
}


def stored(api: Api) -> dict[str, int]:
    with transaction(api.engine) as connection:
        counts = {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in TABLES}  # noqa: S608
        keys = "SELECT count(idempotency_key) FROM jobs UNION ALL SELECT count(idempotency_key) FROM batches"
        return counts | {"keys": sum(connection.execute(text(keys)).scalars())}


def answered(api: Api) -> int:
    """Requests that came with a whole head, and are over."""
    lines = httpx2.get(f"{api.base_url}/metrics", timeout=60).text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("kiln_http_request_seconds_count"))


def cut(api: Api, kind: Kind, places: list[int] | None, *, chunked: bool) -> None:
    """Send the beginning of the body that ends at each of the places (None: everywhere), then leave in each way."""
    headers = {"Content-Type": kind.media_type, "Idempotency-Key": "once", **kind.headers}
    path = kind.path.format(job=api.post("/v1/jobs", json={"prompt": "old"}).json()["id"])
    start, travels = wire.framed(path, headers, kind.body, chunked=chunked)
    before, already = stored(api), answered(api)
    sent = 0
    for place in range(len(travels)) if places is None else places:
        for how in get_args(wire.End):
            connection = wire.connect(api.base_url)
            connection.sendall(start + travels[:place])
            wire.end(connection, how)
            sent += 1
    wait_for("end of them all", lambda: answered(api) >= already + sent)
    assert stored(api) == before
    answer = httpx2.post(api.base_url + path, content=kind.body, headers=headers, timeout=60)
    assert answer.status_code == kind.status, answer.text
    assert "Idempotency-Replayed" not in answer.headers
    assert stored(api) != before


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("name", SMALL)
def test_a_body_that_is_cut_at_any_byte_stores_nothing(api: Api, name: str, chunked: bool) -> None:
    """Half a batch queued, and the whole refused because its key was used."""
    cut(api, SMALL[name], None, chunked=chunked)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("name", LARGE)
def test_a_long_body_that_is_cut_anywhere_stores_nothing(api: Api, name: str, chunked: bool) -> None:
    kind = LARGE[name]
    places = [random.Random(number).randrange(len(kind.body)) for number in range(3)]
    cut(api, kind, [*places, len(kind.body) - 1], chunked=chunked)
