"""Settings in, the HTTP application out. One job's way begins in jobs.py."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import structlog
from fastapi import FastAPI

from api import batches, catalog, errors, events, health, images, jobs, outcome, page, webhooks
from api.compat import files, generate
from api.kiln import Kiln, connect
from api.middleware import Envelope
from common.errors import StorageError
from common.settings import Settings

log = structlog.get_logger()

DESCRIPTION = "An asynchronous job queue for text-to-image diffusion: load it in the evening, open it in the morning."

MEANINGS = {
    400: "the body is not JSON; or, to OpenAI's clients, a field is not acceptable",
    401: "no API key, or one that is unknown, revoked or expired",
    403: "the API key lacks a scope; or there are no keys, and this is another machine, or another site's page",
    404: "there is no such thing, or it is somebody else's",
    409: "not in this state",
    408: "the body comes too slowly",
    413: "the body is too long",
    415: "the body is of a kind that this call does not read, or does not say of which",
    422: "a field is not acceptable; errors names it",
    429: "the queue is full, or the caller asks for too much at once; Retry-After says when to try again",
    503: "a service is down, or the API has as much in hand as it can hold; Retry-After says when to try again",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": errors.PROBLEM} for status, meaning in MEANINGS.items()
}


def create_app(settings: Settings) -> FastAPI:
    """The API over the services that ``settings`` name. Starts whichever of them are away."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        kiln: Kiln = app.state.kiln
        await kiln.removals.leave(_make_bucket, kiln)
        kiln.hub.start()
        yield
        await kiln.hub.close()
        await kiln.limiter.close()
        await kiln.pictures.close()
        kiln.engine.dispose()
        kiln.patient.dispose()

    app = FastAPI(title="Kiln", version=version("kiln"), description=DESCRIPTION, lifespan=lifespan, responses=PROBLEMS)
    app.state.kiln = connect(settings)
    errors.install(app)
    app.add_middleware(Envelope)
    for part in (jobs, batches, outcome, images, events, webhooks, generate, files, catalog, health):
        app.include_router(part.router)
    page.install(app, settings)
    return app


def _make_bucket(kiln: Kiln) -> None:
    """A new deployment's first start makes its bucket; a store that is away is readiness's to tell."""
    try:
        kiln.objects.ensure_bucket()
    except StorageError as error:
        log.warning("bucket not made", reason=error.detail)
