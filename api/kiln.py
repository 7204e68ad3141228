"""What every endpoint needs, made once from the settings: database, broker, bucket. No torch, no worker."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from api import access
from api.hub import Hub
from api.keyring import Keyring
from api.limit import Limiter
from api.request_body import Room
from common.db import make_engine
from common.jobs.keys import Scope
from common.objects import Objects
from common.queue import Doorbell
from common.settings import Settings


@dataclass(frozen=True, slots=True)
class Kiln:
    """The API's connections to the outside."""

    settings: Settings
    engine: Engine
    doorbell: Doorbell
    objects: Objects
    keyring: Keyring
    limiter: Limiter
    hub: Hub
    room: Room


def connect(settings: Settings) -> Kiln:
    """Make the connections; none of them is opened before it is used."""
    engine = make_engine(settings.database_url.get_secret_value(), name="kiln-api")
    broker_url = settings.broker_url.get_secret_value()
    objects = Objects.from_settings(settings)
    return Kiln(
        settings=settings,
        engine=engine,
        doorbell=Doorbell(broker_url),
        objects=objects,
        keyring=Keyring(engine),
        limiter=Limiter(broker_url, settings.requests_per_minute),
        hub=Hub(engine, objects, settings.presign_seconds, broker_url),
        room=Room(settings.max_batch_bytes),
    )


async def _current(request: Request) -> Kiln:
    kiln: Kiln = request.app.state.kiln
    return kiln


KilnDep = Annotated[Kiln, Depends(_current)]
Reader = Annotated[str, Depends(access.Requires(Scope.READ))]
Submitter = Annotated[str, Depends(access.Requires(Scope.SUBMIT))]
SubmitterAndReader = Annotated[str, Depends(access.Requires(Scope.SUBMIT, Scope.READ))]
