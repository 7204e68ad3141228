"""An S3 server's address in; the same by HTTP, out: one that passes, is away, errs, forbids, or cuts uploads short."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["", "away", "errors", "forbidden", "cut"]

ERRORS = 0.3  # of all requests
SECONDS = 30
OF_ONE_CONNECTION = ("connection", "keep-alive", "transfer-encoding", "content-length")


class Storefront(ThreadingHTTPServer):
    """Passes requests on as they are, signature and Host included, unless ``fault`` says otherwise."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Desk)
        self.target = urlsplit(target).netloc
        self.fault: Fault = ""
        self.struck = 0  # requests that the fault met

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Desk(BaseHTTPRequestHandler):
    """One connection."""

    server: Storefront
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with suppress(OSError, HTTPException):
            super().handle_one_request()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self._strike()
        if fault == "away":
            self.close_connection = True
        elif fault == "errors":
            self._refuse(503, "SlowDown")
        elif fault == "forbidden":
            self._refuse(403, "AccessDenied")
        elif fault == "cut" and body:
            self._send(body[: len(body) // 2]).close()
            self.close_connection = True
        else:
            self._pass(body)

    do_GET = do_HEAD = do_DELETE = do_POST = do_PUT

    def _strike(self) -> Fault:
        """What is to befall this request."""
        fault = self.server.fault
        if fault == "errors" and random.random() > ERRORS:
            return ""
        self.server.struck += bool(fault)
        return fault

    def _send(self, body: bytes) -> HTTPConnection:
        upstream = HTTPConnection(self.server.target, timeout=SECONDS)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body)
        return upstream

    def _pass(self, body: bytes) -> None:
        upstream = self._send(body)
        try:
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in OF_ONE_CONNECTION:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        finally:
            upstream.close()

    def _refuse(self, status: int, code: str) -> None:
        content = b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: the scenarios count."""


@contextmanager
def storefront(target: str) -> Iterator[Storefront]:
    """A storefront before ``target`` during the block."""
    with Storefront(target) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
