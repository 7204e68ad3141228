"""TLS to the broker: of all five clients, from their first byte on, against a real server and a listening ear."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import trustme
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from api.ear import Ear
from api.limit import Limiter
from common.broker_url import read_broker_url
from common.errors import RateLimited
from common.local.services import Services
from common.queue import Doorbell, make_celery
from worker.herald import Herald

PASSWORD = "a-password-to-overhear"


def ring(url: str) -> None:
    Doorbell(url).ring("demo")


def work(url: str) -> None:
    with make_celery(url).connection_for_read() as connection:
        connection.channel().client.ping()


def tell(url: str) -> None:
    Herald(url).tell("ann", "progress", {})


def count(url: str) -> None:
    async def once() -> None:
        limiter = Limiter(url, 100)
        await limiter.count("key")
        await limiter.close()

    asyncio.run(once())


def hear(url: str) -> None:
    async def once() -> None:
        ear = Ear(url, lambda *_: None)
        ear.listen("ann")
        await asyncio.sleep(0.5)
        await ear.close()

    asyncio.run(once())


@pytest.mark.parametrize(
    ("client", "extra"),
    [*((client, "") for client in (ring, work, tell, count, hear)), (ring, "?ssl_cert_reqs=none")],
)
def test_no_client_says_a_word_in_clear(client: Callable[[str], None], extra: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[bytes] = []
        listening = threading.Thread(target=overhear, args=[server, heard])
        listening.start()
        port = server.getsockname()[1]
        with suppress(OperationalError, RedisError, OSError):
            client(read_broker_url(f"rediss://:{PASSWORD}@127.0.0.1:{port}/0{extra}"))
        listening.join(timeout=10)
    assert heard
    assert all(said[:2] == b"\x16\x03" for said in heard), "a TLS handshake (RFC 8446, 5.1)"
    assert PASSWORD.encode() not in b"".join(heard)


def overhear(server: socket.socket, heard: list[bytes]) -> None:
    """What the first caller says at once. It is answered nothing."""
    caller, _ = server.accept()
    with caller:
        heard.append(caller.recv(1 << 16))


@pytest.fixture(scope="module")
def guarded(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Valkey behind TLS (the wheel's has none of its own), by an authority that nobody knows."""
    folder = tmp_path_factory.mktemp("tls broker")
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").configure_cert(context)
    behind = urlsplit(services.broker_url)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(terminate_tls(context, behind.port or 0), loop).result(10)
    port = server.sockets[0].getsockname()[1]
    yield f"rediss://:{behind.password}@127.0.0.1:{port}/15?{urlencode({'ssl_ca_certs': folder / 'ca.pem'})}"
    asyncio.run_coroutine_threadsafe(end(server), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=10)


async def terminate_tls(context: ssl.SSLContext, port: int) -> asyncio.Server:
    """A server of TLS that passes what is said on to ``port``, and back."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond_reader, beyond_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, beyond_writer), pump(beyond_reader, writer))

    return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)


async def end(server: asyncio.Server) -> None:
    server.close()
    connections = asyncio.all_tasks() - {asyncio.current_task()}
    for connection in connections:
        connection.cancel()
    await asyncio.wait(connections, timeout=5)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while said := await reader.read(1 << 16):
            writer.write(said)
            await writer.drain()
    writer.close()


def test_all_of_them_speak_with_a_server_that_takes_tls_alone(guarded: str) -> None:
    url = read_broker_url(guarded)
    bell = Doorbell(url)
    assert bell.ring("of this test")  # no worker's of another test on the same server
    assert bell.waiting("of this test") == 1
    work(url)
    heard: list[tuple[str, dict[str, Any]]] = []

    async def listen() -> None:
        ear = Ear(url, lambda owner, message: heard.append((owner, message)))
        ear.listen("ann")
        herald = Herald(url)
        async with asyncio.timeout(30):
            while not heard:
                herald.tell("ann", "progress", {"percent": 50})
                await asyncio.sleep(0.1)
        await ear.close()
        limiter = Limiter(url, 1)
        await limiter.count("key")
        with pytest.raises(RateLimited):
            await limiter.count("key")
        await limiter.close()

    asyncio.run(listen())
    assert heard[0] == ("ann", {"event": "progress", "data": {"percent": 50}})


def test_a_server_whose_certificate_is_not_good_is_not_spoken_to(guarded: str) -> None:
    unknown = read_broker_url(guarded.partition("?")[0].removesuffix("15") + "14")  # kombu keeps connections by URL
    assert not Doorbell(unknown).ring("demo")
    with pytest.raises(RedisError, match="CERTIFICATE_VERIFY_FAILED"):
        work(unknown)
