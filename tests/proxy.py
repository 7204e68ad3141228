"""A TCP proxy on loopback: a server's address in; one that passes, refuses, cuts, swallows and more, out."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

Mode = Literal["pass", "refuse", "cut", "swallow", "trickle", "delay", "lose", "clip"]

CLIP_BYTES = 1500  # of a request


@dataclass(slots=True, eq=False)
class Link:
    """One connection: both its ends, and what becomes of what passes between them."""

    client: socket.socket
    server: socket.socket
    mode: Mode


class Proxy:
    """Passes connections on, until ``become`` says otherwise. Two threads for each connection.

    ``refuse`` ends new connections at once; ``cut`` resets those there are, too; ``swallow`` keeps them open and lets
    no byte through, as a half-open network does; ``trickle`` lets one byte of an answer through each second;
    ``delay`` holds each piece back for ``seconds``; ``lose`` ends the first connection whose server answers, in place
    of that answer, and passes from then on; ``clip`` does so with the first whose client has sent CLIP_BYTES, and
    passes those on.
    """

    def __init__(self, target: tuple[str, int], *, seconds: float = 0.2) -> None:
        self.taken = 0  # connections that were not refused
        self.lost = 0  # answers, and ends of requests
        self._target = target
        self._seconds = seconds
        self._later: Mode = "pass"
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._server.getsockname()[1]
        return port

    def become(self, mode: Mode, *, later: Mode | None = None) -> int:
        """Do so with every connection that there is, and with later ones, unless those are to be ``later``.

        Returns how many there are.
        """
        with self._lock:
            self._later = later or mode
            links = tuple(self._links)
        for link in links:
            link.mode = mode
            if mode == "cut":
                _reset(link.client)
                _end(link.server)
        return len(links)

    def close(self) -> None:
        self._closed.set()
        self.become("cut")
        for thread in tuple(self._threads):
            thread.join(timeout=5)
        self._server.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with suppress(TimeoutError):
                self._take(self._server.accept()[0])

    def _take(self, client: socket.socket) -> None:
        if self._later in ("refuse", "cut"):
            _reset(client)
            client.close()
            return
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self.taken += 1
            link = Link(client, server, self._later)
            self._links.add(link)
        if link.mode in ("refuse", "cut"):  # since a moment ago
            _reset(client)
        self._threads.append(threading.Thread(target=self._serve, args=(link,), daemon=True))
        self._threads[-1].start()

    def _serve(self, link: Link) -> None:
        with link.client, link.server:
            answers = threading.Thread(target=self._pump, args=(link, link.server, link.client), daemon=True)
            answers.start()
            self._pump(link, link.client, link.server)
            answers.join()
        with self._lock:
            self._links.discard(link)

    def _pump(self, link: Link, source: socket.socket, sink: socket.socket) -> None:
        """Everything that comes from ``source`` goes to ``sink``, its end too, as the mode allows."""
        came = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._hold(link)
                if source is link.server and self._ends(link, "lose"):
                    _end(link.server)
                    break
                if source is link.server:
                    data = self._trickle(link, data)
                came += len(data)
                if source is link.client and came > CLIP_BYTES and self._ends(link, "clip"):
                    sink.sendall(data[: len(data) - came + CLIP_BYTES])
                    _end(link.server)
                    _reset(link.client)
                    break
                sink.sendall(data)
        self._hold(link)
        if link.mode != "cut":
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def _hold(self, link: Link) -> None:
        """Keep a piece, or an end, while the mode is ``swallow``, or for as long as ``delay`` takes.

        Meanwhile nothing more is read: the sender's buffer fills, as before a dead link.
        """
        if link.mode == "delay":
            time.sleep(self._seconds)
        while link.mode == "swallow":
            time.sleep(0.05)

    def _trickle(self, link: Link, data: bytes) -> bytes:
        """What is left to pass on once the mode is not ``trickle`` any more."""
        while link.mode == "trickle" and data:
            link.client.sendall(data[:1])
            data = data[1:]
            time.sleep(1)
        return data

    def _ends(self, link: Link, mode: Mode) -> bool:
        """Whether this is the one that is to end in this mode; from then on all is passed."""
        with self._lock:
            if link.mode != mode:
                return False
            self.lost += 1
            self._later = "pass"
            for each in self._links - {link}:
                each.mode = "pass"
            return True


def _reset(connection: socket.socket) -> None:
    """End it so that the other side sees a reset, not an end, as soon as it is closed."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


def _end(connection: socket.socket) -> None:
    """End it both ways, which wakes whoever reads it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(host: str, port: int) -> Iterator[Proxy]:
    """A proxy before ``host``:``port`` during the block."""
    proxy = Proxy((host, port))
    try:
        yield proxy
    finally:
        proxy.close()
