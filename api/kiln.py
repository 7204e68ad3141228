"""What every endpoint needs, made once from the settings: database, broker, bucket. No torch, no worker."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from api import access
from common.db import make_engine
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


def connect(settings: Settings) -> Kiln:
    """Make the connections; none of them is opened before it is used."""
    return Kiln(
        settings=settings,
        engine=make_engine(settings.database_url.get_secret_value(), name="kiln-api"),
        doorbell=Doorbell(settings.broker_url.get_secret_value()),
        objects=Objects.from_settings(settings),
    )


async def _current(request: Request) -> Kiln:
    kiln: Kiln = request.app.state.kiln
    return kiln


KilnDep = Annotated[Kiln, Depends(_current)]
Owner = Annotated[str, Depends(access.authenticate)]
