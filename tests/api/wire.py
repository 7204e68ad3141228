"""Requests by hand, over a socket: as slow, as long and as broken as a test wants them."""

import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

End = Literal["close", "half-close", "reset"]


def connect(base_url: str) -> socket.socket:
    address = urlsplit(base_url)
    return socket.create_connection((address.hostname, address.port or 80), timeout=60)


def head(path: str, headers: Mapping[str, str]) -> bytes:
    """The beginning of a POST, to the empty line."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def framed(path: str, headers: Mapping[str, str], body: bytes, *, chunked: bool) -> tuple[bytes, bytes]:
    """A POST's head, and its body as it travels: in chunks, or with its length told before."""
    if not chunked:
        return head(path, {**headers, "Content-Length": str(len(body))}), body
    size = max(1, len(body) // 3)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    travels = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return head(path, {**headers, "Transfer-Encoding": "chunked"}), travels


def end(connection: socket.socket, how: End) -> None:
    """Leave; after a half-close, once the server has left, too."""
    with connection:
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "half-close":
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
                read(connection)


def read(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def status(answer: bytes) -> int:
    """Of the first answer that is more than leave to go on."""
    found = [line.split()[1] for line in answer.splitlines() if line.startswith(b"HTTP/1.1 ")]
    return next(int(each) for each in found if each != b"100")
