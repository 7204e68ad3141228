"""Around every request: an id for it, its duration in the metrics, and an end in good order. Plain ASGI."""

import asyncio
import time
import uuid
from contextlib import suppress

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DURATION = Histogram("kiln_http_request_seconds", "Time to answer a request", ["method", "route", "status"])

SETTLE_SECONDS = 0.1  # within which a small body comes behind its head: then the connection can be kept
LINGER_SECONDS = 5.0  # for which the rest of a request that was answered early is read


class Envelope:
    """Gives each request an id, and times its answer.

    A request that is answered before its body was read has the connection closed, and not at once: a client that is
    still sending would see a reset in place of the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 500
        ended = 0.0
        rest = _Rest(scope, receive)

        async def send_with_id(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                if not await rest.read(SETTLE_SECONDS):
                    message["headers"].append((b"connection", b"close"))
            elif not message.get("more_body", False):
                ended = time.perf_counter()
                if not rest.over:
                    await send({**message, "more_body": True})
                    await rest.read(LINGER_SECONDS)
                    message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, rest.receive, send_with_id)
        route = getattr(scope.get("route"), "path", "unknown")
        DURATION.labels(scope["method"], route, status).observe((ended or time.perf_counter()) - started)


class _Rest:
    """What there still is of a request's body."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = dict(scope["headers"])
        self._receive = receive
        self._waits = b"expect" in headers  # for leave to send: to receive would give it
        self.over = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers

    async def receive(self) -> Message:
        self._waits = False
        message = await self._receive()
        self.over = self.over or not message.get("more_body", False)
        return message

    async def read(self, seconds: float) -> bool:
        """Read and forget it, for so long at most; whether it is over then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (self.over or self._waits):
                    await self.receive()
        return self.over
