"""Events over HTTP: a job, a batch or all of the caller's jobs in; what becomes of them out, while it happens, as SSE.

What changes a job's state comes from the log, once each and in order, and its id resumes the stream. What happens in
between (stage, progress, preview) is sent to whoever listens then, and is kept nowhere.
"""

import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import access
from api.hub import Hub
from api.kiln import OPEN, Kiln, KilnDep, Reader
from common.errors import KilnError, NotFound, Unavailable
from common.ids import parse_id
from common.jobs.keys import Scope
from common.jobs.log import Watch, count_unfinished, newest_event

log = structlog.get_logger()

router = APIRouter(prefix="/v1", tags=["events"], default_response_class=EventSourceResponse, dependencies=[OPEN])

LOOK_SECONDS = 60.0  # for so long a revoked key may still listen
NEWEST = 2**63 - 1

_allowed = access.Requires(Scope.READ)


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a stream begins, and whether it waits for more."""

    hub: Hub
    request: Request
    after: int | None
    end: int  # nothing up to this event could be added to the log any more when the stream was asked for
    follow: bool

    def place(self, watch: Watch) -> int:
        """Behind which event: where the client was, or where a new stream begins, a job's with its first one."""
        if self.after is not None:
            return self.after
        return 0 if watch.job_id else self.end


async def _begin(
    request: Request,
    kiln: KilnDep,
    last_event_id: Annotated[int | None, Query(ge=0, le=NEWEST, description="for clients without the header")] = None,
    resumed: Annotated[
        int | None, Header(alias="Last-Event-ID", ge=0, le=NEWEST, description="go on behind this event")
    ] = None,
    follow: Annotated[bool, Query(description="false: what there is by now, without waiting for more")] = True,
) -> Begin:
    after = last_event_id if resumed is None else resumed
    if after:  # in a database that was restored there may be no such event yet
        after = min(after, await kiln.pool.run(newest_event, kiln.engine))
    # Before the answer begins: whoever has its head is told of all that happens from then on
    return Begin(kiln.hub, request, after, await kiln.hub.end(), follow)


BeginDep = Annotated[Begin, Depends(_begin)]


async def _job(job_id: str, kiln: KilnDep, owner: Reader) -> Watch:
    return await _existing(kiln, Watch(owner, job_id=parse_id("job", job_id)), job_id)


async def _batch(batch_id: str, kiln: KilnDep, owner: Reader) -> Watch:
    return await _existing(kiln, Watch(owner, batch_id=parse_id("batch", batch_id)), batch_id)


@router.get("/jobs/{job_id}/events")
async def of_job(watch: Annotated[Watch, Depends(_job)], begin: BeginDep) -> AsyncIterator[ServerSentEvent]:
    """What becomes of a job: from its first event on, or behind Last-Event-ID, to its end."""
    async for each in _follow(watch, begin):
        yield each


@router.get("/batches/{batch_id}/events")
async def of_batch(watch: Annotated[Watch, Depends(_batch)], begin: BeginDep) -> AsyncIterator[ServerSentEvent]:
    """What becomes of a batch's jobs: from now on, or behind Last-Event-ID, until all are over."""
    async for each in _follow(watch, begin):
        yield each


@router.get("/events")
async def of_owner(owner: Reader, begin: BeginDep) -> AsyncIterator[ServerSentEvent]:
    """What becomes of all the caller's jobs: from now on, or behind Last-Event-ID."""
    async for each in _follow(Watch(owner), begin):
        yield each


async def _existing(kiln: Kiln, watch: Watch, name: str) -> Watch:
    if await kiln.reading.pool.run(count_unfinished, kiln.patient, watch) is None:
        raise NotFound(f"there is no {'job' if watch.job_id else 'batch'} {name}")
    return watch


async def _follow(watch: Watch, begin: Begin) -> AsyncIterator[ServerSentEvent]:
    """The log behind the client's place, then what is new. A stream that breaks off is one that the client resumes."""
    hub, looked_at = begin.hub, time.monotonic()
    try:
        with hub.subscribed(watch) as stream:
            stream.position = begin.place(watch)
            left = await _unfinished(hub, watch)
            while not stream.closed:
                if stream.behind or left <= 0:
                    over = left <= 0
                    while frames := await hub.read(stream, finished=over):
                        for frame in frames:
                            yield frame.sent()
                    if over or not begin.follow:
                        return
                    # The ends that were just read may be among those still to come, or not: so they are counted anew
                    left = await _unfinished(hub, watch)
                    continue
                for frame in await stream.take(LOOK_SECONDS):
                    left -= frame.ends
                    yield frame.sent()
                if time.monotonic() - looked_at > LOOK_SECONDS:
                    await _allowed.look(begin.request)
                    looked_at = time.monotonic()
                    left = await _unfinished(hub, watch)
                elif left <= 0:
                    left = await _unfinished(hub, watch)
    except Unavailable:
        log.warning("a stream of events was ended: the database does not answer")
    except KilnError as error:  # the key was revoked meanwhile, or makes too many requests
        log.info("a stream of events was ended", reason=error.detail)


async def _unfinished(hub: Hub, watch: Watch) -> float:
    """How many jobs' ends are to come at least, before nothing more can."""
    if watch.job_id is None and watch.batch_id is None:
        return math.inf
    return await hub.unfinished(watch) or 0
