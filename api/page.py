"""The page for people: GET /, and the files below /static, with headers that let nothing foreign in. Needs no key."""

import hashlib
from base64 import b64encode
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from common.settings import Settings

STATIC = Path(__file__).parent / "static"
REPORT_STYLE = Path(__file__).parent / "report.css"


def install(app: FastAPI, settings: Settings) -> None:
    """Serve the page. The OpenAPI document, which is for programs, does not list it."""
    headers = make_headers(settings)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=headers)

    app.mount("/static", _Guarded(headers))


def make_headers(settings: Settings) -> dict[str, str]:
    """What goes out with each file of the page. Scripts and styles are our own, pictures also from the store."""
    store = urlsplit(settings.s3_public_url or settings.s3_endpoint_url)
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": f"'self' '{_report_style()}'",
        "img-src": f"'self' blob: data: {store.scheme}://{store.netloc.rpartition('@')[2]}",
        "connect-src": "'self'",
        "frame-src": "blob:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",  # asked again each time, and answered 304: a new version is seen at once
    }


def _report_style() -> str:
    """The report's style sheet by its hash: the page shows reports from blob: URLs, which inherit its policy."""
    style = f"\n{REPORT_STYLE.read_text(encoding='utf-8')}"  # as it stands between the tags
    return "sha256-" + b64encode(hashlib.sha256(style.encode()).digest()).decode()


class _Guarded(StaticFiles):
    """The static files, each with these headers."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(directory=STATIC)
        self._headers = headers

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(self._headers)
        return response
