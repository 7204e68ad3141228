"""What every endpoint needs, made once from the settings: database, broker, bucket. No torch, no worker."""

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Request
from sqlalchemy import Engine

from api import access
from api.held import Places
from api.hub import Hub
from api.keyring import Keyring
from api.limit import Limiter
from api.pictures import Pictures
from api.pools import Pool, Shared, renew
from api.request_body import Room
from api.turns import Turns
from common.db import check_database, make_engine
from common.jobs.keys import Scope
from common.objects import Objects
from common.queue import Doorbell
from common.settings import Settings

STATEMENT_SECONDS = 1.0  # of what touches a few rows
LOCK_SECONDS = 0.5  # for which even large work waits: somebody who locks a table for long holds up nobody
QUICK, LARGE, EXPORTS = 10, 4, 3  # threads, and so connections to the database
MOST_OPEN = 4000  # requests that wait, follow, or read a picture: some kilobytes each
MOST_DOWNLOADS = 32  # archives, reports, results
READINESS_SECONDS = 1.0  # it costs the same however many ask

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kiln:
    """The API's connections to the outside."""

    settings: Settings
    engine: Engine
    pool: Pool  # for calls of the engine
    doorbell: Doorbell
    objects: Objects
    pictures: Pictures
    keyring: Keyring
    limiter: Limiter
    hub: Hub
    room: Room
    patient: Engine  # whose statements may take their time
    readers: Pool  # of many rows
    writers: Pool
    exports: Pool  # what is made while it is sent
    albums: Pool  # the same where it reads pictures
    removals: Pool  # of objects
    readiness: Shared[Any]
    places: Places  # of requests that wait, follow, or read a picture
    downloads: Places
    turns: Turns

    @property
    def reading(self) -> "Kiln":
        """The same, for calls that read as many rows as a batch may have."""
        return replace(self, engine=self.patient, pool=self.readers)

    @property
    def writing(self) -> "Kiln":
        """The same, for calls that write as many."""
        return replace(self, engine=self.patient, pool=self.writers)


def connect(settings: Settings) -> Kiln:
    """Make the connections; none of them is opened before it is used."""
    database_url, broker_url = settings.database_url.get_secret_value(), settings.broker_url.get_secret_value()
    # Twice the size is opened at most: one more for the hub than there are threads
    engine = make_engine(
        database_url,
        name="kiln-api",
        pool_size=QUICK // 2 + 1,
        statement_seconds=STATEMENT_SECONDS,
        lock_seconds=LOCK_SECONDS,
    )
    patient = make_engine(database_url, name="kiln-api", pool_size=LARGE + EXPORTS, lock_seconds=LOCK_SECONDS)
    pool = Pool(QUICK)

    async def probe() -> None:
        renew()
        await pool.run(check_database, engine)

    objects = Objects.from_settings(settings)
    return Kiln(
        settings=settings,
        engine=engine,
        pool=pool,
        doorbell=Doorbell(broker_url),
        objects=objects,
        pictures=Pictures(objects),
        keyring=Keyring(engine, pool),
        limiter=Limiter(broker_url, settings.requests_per_minute),
        hub=Hub(engine, objects, settings.presign_seconds, broker_url),
        room=Room(settings.max_batch_bytes),
        patient=patient,
        readers=Pool(LARGE, probe),
        writers=Pool(LARGE, probe),
        exports=Pool(EXPORTS),
        albums=Pool(EXPORTS),
        removals=Pool(2),
        readiness=Shared(READINESS_SECONDS),
        places=Places("requests that wait or follow", of_owner=settings.max_open_per_owner, in_all=MOST_OPEN),
        downloads=Places("downloads", of_owner=MOST_DOWNLOADS // 4, in_all=MOST_DOWNLOADS),
        turns=Turns(),
    )


def quick(call: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The endpoint that runs ``call`` in a thread: it touches a few rows, and gets ``kiln`` as an argument."""
    return _in_a_pool(call, lambda kiln: kiln)


def reads_many(call: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same where it reads as many rows as a batch may have: it takes its time while the database answers."""
    return _in_a_pool(call, lambda kiln: kiln.reading)


def writes_many(call: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same where it writes as many."""
    return _in_a_pool(call, lambda kiln: kiln.writing)


def _in_a_pool(call: Callable[P, T], choose: Callable[[Kiln], Kiln]) -> Callable[P, Coroutine[Any, Any, T]]:
    @wraps(call)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        chosen: Any = choose(kwargs["kiln"])  # type: ignore[arg-type] # FastAPI passes by name
        kwargs["kiln"] = chosen
        result: T = await chosen.pool.run(call, *args, **kwargs)
        return result

    return run


async def _current(request: Request) -> Kiln:
    kiln: Kiln = request.app.state.kiln
    return kiln


KilnDep = Annotated[Kiln, Depends(_current)]
Reader = Annotated[str, Depends(access.Requires(Scope.READ))]
Submitter = Annotated[str, Depends(access.Requires(Scope.SUBMIT))]
SubmitterAndReader = Annotated[str, Depends(access.Requires(Scope.SUBMIT, Scope.READ))]


async def _hold_open(kiln: KilnDep, owner: Reader) -> AsyncIterator[None]:
    with kiln.places.taken(owner):
        yield


async def _hold_download(kiln: KilnDep, owner: Reader) -> AsyncIterator[None]:
    with kiln.downloads.taken(owner):
        yield


# For endpoints that stream: one of the owner's places, until the answer has ended or the client has gone
OPEN, DOWNLOAD = Depends(_hold_open), Depends(_hold_download)
