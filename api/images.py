"""Pictures over HTTP: the gallery's list, and the bytes themselves, by redirect to the store or streamed through."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from api import schemas
from api.kiln import OPEN, KilnDep, Reader, reads_many
from api.pools import in_time
from api.resolve import plain_text
from api.views import show_exhibit
from common.errors import FieldError, InvalidRequest, NotFound
from common.ids import parse_id
from common.jobs.gallery import Filter, list_images
from common.jobs.read import get_image
from common.styles import STYLES, resolve_style

router = APIRouter(prefix="/v1/images", tags=["images"])

MAX_TEXT = 200  # characters to look for


@router.get("", response_model=schemas.Page[schemas.Exhibit])
@reads_many
def index(
    kiln: KilnDep,
    owner: Reader,
    q: Annotated[str | None, Query(description="words that all stand in the prompt, in any case")] = None,
    style: Annotated[str | None, Query(description="see GET /v1/styles")] = None,
    batch_id: str | None = None,
    min_clip_score: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    sort: Annotated[Literal["-id", "-clip_score"], Query(description="newest first, or best first")] = "-id",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="last_id of the page before")] = None,
) -> schemas.Page[schemas.Exhibit]:
    """The caller's pictures, each with the prompt and style that it was asked for with."""
    wanted = Filter(
        text=_plain(q) if q else None,
        style=_known(style) if style else None,
        batch_id=parse_id("batch", batch_id) if batch_id else None,
        min_clip_score=min_clip_score,
    )
    found, more = list_images(
        kiln.engine,
        owner,
        wanted,
        best_first=sort == "-clip_score",
        after=parse_id("img", after) if after else None,
        limit=limit,
    )
    shown = [show_exhibit(one, objects=kiln.objects, url_seconds=kiln.settings.presign_seconds) for one in found]
    return schemas.Page(data=shown, has_more=more, last_id=shown[-1].id if shown else None)


@router.get(
    "/{image_id}/content",
    status_code=302,
    response_class=Response,
    dependencies=[OPEN],
    responses={200: {"description": "the bytes, with proxy=1"}, 302: {"description": "to a presigned URL"}},
)
async def content(
    image_id: str,
    kiln: KilnDep,
    owner: Reader,
    proxy: Annotated[bool, Query(description="stream through the API instead of redirecting")] = False,
) -> Response:
    """The picture's bytes."""
    image = await kiln.pool.run(get_image, kiln.engine, owner, parse_id("img", image_id))
    if image is None or image.key is None:
        raise NotFound(f"there is no picture {image_id}")
    if not proxy:
        return RedirectResponse(kiln.objects.presign(image.key, kiln.settings.presign_seconds), status_code=302)
    headers = {"Content-Length": str(image.bytes), "ETag": f'"{image.sha256}"'}
    return StreamingResponse(
        await in_time(kiln.pictures.open(image.key)), headers=headers, media_type=image.content_type
    )


def _plain(text: str) -> str:
    if errors := plain_text("q", text, MAX_TEXT):
        raise InvalidRequest(f"q {errors[0].detail}", tuple(errors))
    return text


def _known(style: str) -> str:
    if (name := resolve_style(style)) is None:
        unknown = f"{style[:80]!r} is not known; known: {', '.join(STYLES)}"
        raise InvalidRequest(f"style {unknown}", (FieldError("/style", unknown),))
    return name
