"""A call's way in: who calls comes first, then what kind of body is announced and how long it is, then the body."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response, params
from fastapi.routing import APIRoute

from api.access import Requires
from api.kiln import Kiln
from api.request_body import checked, has_body, refuse_values
from api.resolve import MAX_METADATA_KEY, MAX_METADATA_VALUE
from common.errors import UnknownMediaType
from common.settings import Settings

FORM = "multipart/form-data"


class Route(APIRoute):
    """One call. FastAPI by itself reads the body first, and asks who sent it after."""

    lines: ClassVar[bool] = False  # whether a body may be as long as a batch of lines

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        admits = [each.call for each in self.dependant.dependencies if isinstance(each.call, Requires)]
        reads = None if self.body_field is None else isinstance(self.body_field.field_info, params.Form)

        async def handler(request: Request) -> Response:
            kiln: Kiln = request.app.state.kiln
            owner = ""
            for admit in admits:
                owner = await admit(request)
            most = kiln.settings.max_batch_bytes if self.lines else kiln.settings.max_body_bytes
            with checked(request, most, owner, kiln.room) as whole:
                if reads is not None and has_body(request):
                    _check_kind(request, form=reads)
                    if not reads:
                        refuse_values(await whole.body(), _most_values(kiln.settings))
                return await handle(whole)

        return handler


def media_type(request: Request) -> str:
    """What kind of body the request announces; "" where it does not say."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _most_values(settings: Settings) -> int:
    """Of one job: its texts may be all commas."""
    pair = MAX_METADATA_KEY + MAX_METADATA_VALUE
    return 2 * settings.max_prompt_characters + pair * settings.max_metadata + 1000


def _check_kind(request: Request, *, form: bool) -> None:
    kind = media_type(request)
    if form and kind != FORM:
        raise UnknownMediaType(f"a file is sent as {FORM}, and not as {kind[:80]!r}")
    if not form and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnknownMediaType(f"this call reads application/json, and not {kind[:80]!r}")
