"""A receiver of webhooks for tests: a real HTTP server on loopback that answers as a path says, and notes what came."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """What came, in its order; and until when those hang that hang."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    bytes_sent: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/{path}"

    def at(self, path: str) -> list[Seen]:
        return [one for one in list(self.seen) if one.path.startswith(f"/{path}")]


@contextmanager
def running_receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port, with TLS where there is a ``context``."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.seen.append(Seen(self.path, {name.lower(): text for name, text in self.headers.items()}, body))
            with suppress(OSError):
                _answer(self, receiver)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()


def _answer(to: BaseHTTPRequestHandler, receiver: Receiver) -> None:
    """As the path says: /200, /500-once, /redirect, /hang, /drip, /drip-body, /flood, /junk."""
    match to.path.lstrip("/").split("/")[0]:
        case "hang":
            receiver.released.wait()
        case "drip":
            _drip(to.connection, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000, receiver)
        case "drip-body":
            to.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
            _drip(to.connection, b"x" * 10_000, receiver)
        case "flood":
            to.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n".encode())
            for _ in range(GIB >> 16):
                receiver.bytes_sent += to.wfile.write(b"\0" * (1 << 16))
        case "flood-headers":
            to.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(GIB >> 16):
                receiver.bytes_sent += to.wfile.write(b"X: " + b"y" * (1 << 16))
        case "junk":
            to.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        case "redirect":
            to.wfile.write(
                f"HTTP/1.1 307 Go\r\nLocation: {receiver.url('200/led')}\r\nContent-Length: 0\r\n\r\n".encode()
            )
        case "500-once":
            _say(to, 500 if len(receiver.at(to.path.lstrip("/"))) == 1 else 200)
        case code:
            _say(to, int(code))


def _say(to: BaseHTTPRequestHandler, code: int) -> None:
    to.send_response(code)
    to.send_header("Content-Length", "0")
    to.end_headers()


def _drip(connection: socket.socket, data: bytes, receiver: Receiver) -> None:
    """A byte now and then, for ever: no single wait is long."""
    for place in range(len(data)):
        connection.sendall(data[place : place + 1])
        if receiver.released.wait(0.2):
            return
