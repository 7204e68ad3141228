"""The proxy does to a real server's connections what it is told."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from common.local.services import Services
from tests.proxy import CLIP_BYTES, Proxy, proxied


@pytest.fixture
def proxy(services: Services) -> Iterator[Proxy]:
    address = urlsplit(services.broker_url)
    with proxied("127.0.0.1", address.port or 0) as made:
        yield made


def ask(connection: socket.socket) -> bytes:
    """What Redis says to a PING; without a password that is an error, but an answer."""
    connection.sendall(b"PING\r\n")
    return connection.recv(100)


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=3)


def test_it_passes_what_it_is_given(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection).startswith(b"-NOAUTH")


def test_it_cuts_connections_and_refuses_new_ones_until_it_passes_again(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        ask(connection)
        proxy.become("cut")
        assert ended(connection)
    proxy.become("refuse")
    assert refused(proxy)
    proxy.become("pass")
    with connect(proxy) as connection:
        assert ask(connection)


def test_it_swallows_without_closing_and_gives_what_it_held_afterwards(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        ask(connection)
        proxy.become("swallow")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ask(connection)
        proxy.become("pass")
        connection.settimeout(5)
        assert connection.recv(100).startswith(b"-NOAUTH")


def test_connections_that_there_are_go_half_open_and_later_ones_pass(proxy: Proxy) -> None:
    with connect(proxy) as old:
        ask(old)
        assert proxy.become("swallow", later="pass") == 1
        with connect(proxy) as new:
            assert ask(new).startswith(b"-NOAUTH")
        old.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ask(old)


def test_it_loses_the_first_answer_with_its_connection_and_passes_from_then_on(proxy: Proxy) -> None:
    proxy.become("lose")
    with connect(proxy) as connection:
        assert ended(connection)
    with connect(proxy) as connection:
        assert ask(connection).startswith(b"-NOAUTH")
    assert (proxy.lost, proxy.taken) == (1, 2)


def test_it_clips_the_first_request_that_is_long_and_passes_from_then_on(proxy: Proxy) -> None:
    proxy.become("clip")
    with connect(proxy) as short:
        assert ask(short).startswith(b"-NOAUTH")
        with connect(proxy) as long:
            with suppress(ConnectionError):
                long.sendall(b"PING\r\n" * CLIP_BYTES)
            assert gone(long)
        assert ask(short)
    assert (proxy.lost, proxy.taken) == (1, 2)


def test_a_client_is_told_that_its_server_was_killed() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        proxied(*server.getsockname()) as proxy,
        connect(proxy) as connection,
    ):
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()  # a reset, as of a process that had not read everything
        assert connection.recv(100) == b""


def test_it_delays_each_piece(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.become("delay")
        began = time.monotonic()
        ask(connection)
        assert time.monotonic() - began >= 0.4  # 0.2 s each way


def gone(connection: socket.socket) -> bool:
    """Whether all that comes has an end."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


def ended(connection: socket.socket) -> bool:
    """Whether the other side has ended it, by a reset or an end."""
    try:
        return ask(connection) == b""
    except ConnectionError:
        return True


def refused(proxy: Proxy) -> bool:
    try:
        with connect(proxy) as connection:
            return ended(connection)
    except ConnectionError:  # some kernels tell of the reset as early as this
        return True
