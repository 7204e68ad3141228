"""A TCP proxy on loopback: a server's address in; an address that passes, refuses, cuts, swallows or delays out."""

import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Mode = Literal["pass", "refuse", "cut", "swallow", "delay"]


class Proxy:
    """Passes connections on, until ``become`` says otherwise. One thread for each connection and direction.

    ``refuse`` closes new connections at once; ``cut`` resets those there are, too; ``swallow`` keeps all open and
    lets no byte through, as a half-open network does; ``delay`` holds each piece back for ``seconds``.
    """

    def __init__(self, target: tuple[str, int], *, seconds: float = 0.2) -> None:
        self._target = target
        self._seconds = seconds
        self._mode: Mode = "pass"
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._server.getsockname()[1]
        return port

    def become(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "cut":
            for connection in tuple(self._open):
                _reset(connection)

    def close(self) -> None:
        self._closed.set()
        self.become("cut")
        for thread in tuple(self._threads):
            thread.join(timeout=5)
        self._server.close()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            while not self._closed.is_set():
                if selector.select(0.1):
                    self._take(self._server.accept()[0])

    def _take(self, client: socket.socket) -> None:
        if self._mode in ("refuse", "cut"):
            _reset(client)
            client.close()
            return
        try:
            upstream = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        for ends in ((client, upstream), (upstream, client)):
            ends[0].settimeout(0.1)
            self._open.add(ends[0])
            thread = threading.Thread(target=self._pump, args=ends, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Everything that comes from ``source`` goes to ``sink``, its end too, as the mode allows."""
        with suppress(OSError):
            while not self._closed.is_set():
                if self._mode == "swallow":
                    time.sleep(0.05)  # read nothing: the sender's buffer fills, as behind a dead link
                    continue
                with suppress(TimeoutError):
                    if not (data := source.recv(1 << 16)):
                        break
                    self._wait()
                    sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        self._open.discard(source)

    def _wait(self) -> None:
        """Hold a piece back while the mode is ``swallow`` or for as long as ``delay`` takes."""
        if self._mode == "delay":
            time.sleep(self._seconds)
        while self._mode == "swallow" and not self._closed.is_set():
            time.sleep(0.05)


def _reset(connection: socket.socket) -> None:
    """End it so that the other side sees a reset, not an end."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(host: str, port: int) -> Iterator[Proxy]:
    """A proxy before ``host``:``port`` during the block."""
    proxy = Proxy((host, port))
    try:
        yield proxy
    finally:
        proxy.close()
