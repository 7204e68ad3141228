"""What a key that may submit and not read is told of what it asked for: its id and address, and nothing of the rest."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from api.route import Route

TOLD = ("id", "object", "urls")


class ReceiptRoute(Route):
    """A call whose answer shows a job, a batch or a delivery. It may be one that was there before."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            response = await handle(request)
            if request.state.may_read or not response.body:
                return response
            shown = json.loads(bytes(response.body))
            if "id" not in shown:  # an estimate
                return response
            receipt = JSONResponse({name: shown[name] for name in TOLD if name in shown}, response.status_code)
            kept = {name: value for name, value in response.headers.items() if name != "content-length"}
            receipt.headers.update(kept)
            return receipt

        return handler


class LongReceiptRoute(ReceiptRoute):
    """One whose body may be lines."""

    lines = True
