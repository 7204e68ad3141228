"""Around every request: an id for it, a limit on its body, and its duration in the metrics. Plain ASGI."""

import time
import uuid
from collections.abc import Mapping

from prometheus_client import Histogram
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem
from common.errors import BodyTooLarge

DURATION = Histogram("kiln_http_request_seconds", "Time to answer a request", ["method", "route", "status"])


class Envelope:
    """Gives each request an id, refuses bodies over the limit of their path with 413, and times the answer."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, longer: Mapping[str, int]) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._longer = longer  # the limits of the paths that have their own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        most = self._longer.get(scope["path"], self._max_body_bytes)
        body = await _read_body(scope, receive, most)
        if body is None:
            error = BodyTooLarge(f"the body has more than {most} bytes")
            answer = problem(Request(scope), error.status, error.code, error.detail)
            await answer(scope, receive, send_with_id)
        else:
            await self._app(scope, _replay(body, receive), send_with_id)
        route = getattr(scope.get("route"), "path", "unknown")
        DURATION.labels(scope["method"], route, status).observe(time.perf_counter() - started)


async def _read_body(scope: Scope, receive: Receive, most: int) -> bytes | None:
    """The whole body, or None where it has over ``most`` bytes: what was announced is not waited for."""
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > most:
        return None
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            return None
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body that was read, then whatever the client does next."""
    pending = [body]

    async def replayed() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replayed
