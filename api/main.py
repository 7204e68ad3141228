"""Settings in, the HTTP application out. One job's way begins in jobs.py."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from api import catalog, errors, health, images, jobs, schemas
from api.kiln import connect
from api.middleware import Envelope
from common.settings import Settings

DESCRIPTION = "An asynchronous job queue for text-to-image diffusion: load it in the evening, open it in the morning."

MEANINGS = {
    400: "the body is not JSON",
    401: "no API key, or an unknown one",
    403: "not a client of this machine, and no API keys are set",
    404: "there is no such thing, or it is somebody else's",
    409: "not in this state",
    413: "the body is too long",
    422: "a field is not acceptable; errors names it",
    429: "the queue is full",
    503: "a service is down; try again",
}
PROBLEM = {"application/problem+json": {"schema": schemas.Problem.model_json_schema()}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": PROBLEM} for status, meaning in MEANINGS.items()
}


def create_app(settings: Settings) -> FastAPI:
    """The API over the services that ``settings`` name. Connects to them when the first request needs it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.kiln.engine.dispose()

    app = FastAPI(title="Kiln", version=version("kiln"), description=DESCRIPTION, lifespan=lifespan, responses=PROBLEMS)
    app.state.kiln = connect(settings)
    errors.install(app)
    app.add_middleware(Envelope, max_body_bytes=settings.max_body_bytes)
    for part in (jobs, images, catalog, health):
        app.include_router(part.router)
    return app
