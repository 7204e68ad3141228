"""What comes before a body is read, how much of it may come, and how slowly; over sockets, for no client does such."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from select import select
from socket import socket

import httpx2
import pytest
import uvicorn
from pydantic import SecretStr

from api import protocol, request_body
from api.main import create_app
from common.jobs.keys import Scope, create_key
from common.settings import Settings
from tests.api import wire
from tests.api.conftest import Api
from tests.processes import changed, free_port, running_api, wait_for

MIB = 1 << 20
NDJSON = {"Content-Type": "application/x-ndjson"}
NONSENSE = {"Authorization": f"Bearer kiln_{'0' * 12}_{'0' * 64}"}


@pytest.fixture(scope="module")
def guarded(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that asks for keys, seen by ann; root's key is beside."""
    with running_api(module_settings, log=tmp_path_factory.mktemp("api") / "api.log") as base_url:
        api = Api(base_url, module_settings)
        api.objects.ensure_bucket()
        api.use(create_key(api.engine, "root", list(Scope))[0])
        yield api
        api.close()


def key(api: Api, owner: str, *scopes: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {create_key(api.engine, owner, scopes or [Scope.SUBMIT])[0]}"}


def memory(api: Api) -> float:
    """Resident, in MiB."""
    told = api.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in told if line.startswith("process_resident_memory_bytes")) / MIB


def begun(
    api: Api, headers: dict[str, str], length: int | None, body: bytes = b"", path: str = "/v1/batches"
) -> socket:
    """A connection on which a request has begun; without a length its body comes in chunks."""
    how = {"Content-Length": str(length)} if length is not None else {"Transfer-Encoding": "chunked"}
    connection = wire.connect(api.base_url)
    connection.sendall(wire.head(path, {**NDJSON, **headers, **how}) + body)
    return connection


def refusal(connection: socket, seconds: float = 30) -> tuple[int, bytes]:
    """What is answered though the body has not come; the connection is closed after."""
    with connection:
        connection.settimeout(seconds)
        answer = wire.read(connection)
    assert b"connection: close" in answer
    return wire.status(answer), answer


def test_who_is_nobody_is_told_so_before_a_byte_of_the_body(guarded: Api) -> None:
    callers = ((NONSENSE, 401), ({}, 401), (key(guarded, "ann", Scope.READ), 403))
    begin = [
        (begun(guarded, {**headers, **expects}, length), status)
        for headers, status in callers
        for expects in ({}, {"Expect": "100-continue"})
        for length in (63 * MIB, None)
    ]
    for connection, status in begin:
        told, answer = refusal(connection)
        assert (told, b"100 Continue" in answer) == (status, False)


def test_what_is_wrong_is_told_in_the_order_in_which_it_can_be_known(guarded: Api) -> None:
    good, long, odd = key(guarded, "ann"), 65 * MIB, {"Content-Type": "text/plain"}
    begin = [
        (begun(guarded, {**NONSENSE, **odd}, long), 401),
        (begun(guarded, {**good, **odd}, long), 413),
        (begun(guarded, {**good, **odd}, 63 * MIB), 415),
        (begun(guarded, good, 2 * MIB, path="/v1/jobs"), 413),
    ]
    assert [refusal(connection)[0] for connection, _ in begin] == [status for _, status in begin]


def test_a_hundred_slow_senders_cost_no_memory(guarded: Api) -> None:
    """As many bodies of 64 MiB as one likes, kept for as long as one likes."""
    before = memory(guarded)
    with ExitStack() as stack:
        for headers in (NONSENSE, key(guarded, "ann")):
            waiting = [stack.enter_context(begun(guarded, headers, 64 * MIB, b"x" * MIB)) for _ in range(100)]
            for _ in range(62):
                time.sleep(0.02)
                answered = select(waiting, [], [], 0)[0]
                waiting = [one for one in waiting if one not in answered]
                for one in waiting:
                    one.sendall(b"x" * MIB)
            assert len(waiting) == (headers is not NONSENSE), "one owner sends one of the longest at a time"
        assert memory(guarded) < max(300, before + 32)
        assert httpx2.post(f"{guarded.base_url}/v1/jobs", json={"prompt": "a"}, headers=key(guarded, "ann")).is_success


def test_bodies_in_chunks_that_nobody_announced_take_no_more(guarded: Api) -> None:
    with ExitStack() as stack:
        ann = key(guarded, "ann")
        chunk = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB)
        waiting = [stack.enter_context(begun(guarded, ann, None, chunk)) for _ in range(100)]
        wait_for("refusals", lambda: len(select(waiting, [], [], 0)[0]) >= 36)
        refused = [one for one in waiting if one in select(waiting, [], [], 0)[0]]
        status, answer = refusal(refused[0])
        assert (status, b"Retry-After" in answer or b"retry-after" in answer) == (429, True)
        # and another's
        bob = httpx2.post(
            f"{guarded.base_url}/v1/batches?dry_run=true",
            content=b'{"prompt": "a"}\n' * 10_000,
            headers={**NDJSON, **key(guarded, "bob")},
            timeout=60,
        )
        assert bob.status_code == 200, bob.text
    free = {"content": b"{}\n" * MIB, "headers": {**NDJSON, **ann}}
    wait_for("room", lambda: guarded.post("/v1/batches?dry_run=true", **free).status_code == 422)


def test_a_head_without_end_is_cut_off(guarded: Api) -> None:
    before = memory(guarded)
    for part in (b"X-Long: " + b"x" * MIB, b"X-Many: x\r\n" * (MIB // 11)):
        with wire.connect(guarded.base_url) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                connection.sendall(part * 64)
    assert memory(guarded) < before + 16


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The API in a thread of this process, whose constants a test can change."""
    port = free_port()
    config = uvicorn.Config(create_app(settings), port=port, log_config=None, http=protocol.Protocol)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    wait_for("API", lambda: httpx2.get(f"{url}/healthz").status_code == 200)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()


def test_a_body_that_comes_too_slowly_is_waited_for_no_longer(
    module_settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.0)
    settings = changed(module_settings, database_url=SecretStr(database_url))
    with serving(settings) as url:
        api = Api(url, settings)
        with wire.connect(url) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            connection.settimeout(30)
            assert connection.recv(1) == b"", "a head that does not end is waited for no longer, too"
        started = time.monotonic()
        for connection in [begun(api, {"Idempotency-Key": "k"}, length, b"5\r\nhello\r\n") for length in (1000, None)]:
            status, answer = refusal(connection)
            assert (status, b"body_too_slow" in answer) == (408, True)
        assert time.monotonic() - started >= 1
        sent = api.post("/v1/batches", content=b'{"prompt": "a"}', headers={**NDJSON, "Idempotency-Key": "k"})
        assert (sent.status_code, api.rows()) == (202, 1)
        with begun(api, {}, 300_000) as steady:  # as slow as a poor line, and no slower
            for _ in range(30):
                time.sleep(0.1)
                steady.sendall(b"\n" * 10_000)
            assert wire.status(steady.recv(1 << 16)) == 422  # it has no jobs
        api.close()


def test_an_early_answer_does_not_cost_a_client_its_connection_where_nothing_is_left_to_read(guarded: Api) -> None:
    with httpx2.Client(base_url=guarded.base_url) as client:
        for _ in range(3):
            answer = client.post("/v1/jobs", json={"prompt": "a"}, headers=NONSENSE)
            assert (answer.status_code, answer.headers.get("connection")) == (401, None)
