"""Requests that stay open: how many an owner may have, and all together; and a wait for a job that costs nothing."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request

from api.hub import Hub
from common.errors import TooManyOpen, Unavailable
from common.jobs.log import Watch

LOOK_SECONDS = 60.0  # between two looks at a job of which nothing is heard: it may have been deleted


class Places:
    """So many requests of one kind may be open."""

    def __init__(self, what: str, *, of_owner: int, in_all: int) -> None:
        self._what = what
        self._of_owner = of_owner
        self._in_all = in_all
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, owner: str) -> Iterator[None]:
        """One of the places during the block. Raises TooManyOpen where there is none."""
        if self._taken[owner] >= self._of_owner:
            raise TooManyOpen(f"you have {self._of_owner} {self._what} open, and may not have more")
        if self._taken.total() >= self._in_all:
            raise TooManyOpen(f"{self._in_all} {self._what} are open, and there may not be more")
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken -= Counter([owner])


async def wait_for_end(hub: Hub, request: Request, watch: Watch, seconds: float) -> bool:
    """Return True once the watched job is over, or when the time is up; False as soon as the client has gone.

    It costs next to nothing meanwhile: the hub tells of the end, and the server of the client.
    """
    ended = asyncio.ensure_future(_ended(hub, watch, seconds))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        return ended.done()
    finally:
        ended.cancel()
        gone.cancel()


async def _ended(hub: Hub, watch: Watch, seconds: float) -> None:
    until = time.monotonic() + seconds
    with hub.subscribed(watch, news=False) as stream:
        while not stream.closed and (left := until - time.monotonic()) > 0:
            stream.begin_reading()
            try:
                if not await hub.unfinished(watch):
                    return
            except Unavailable:  # the job goes on, and so does the wait for it
                pass
            look_at = min(until, time.monotonic() + LOOK_SECONDS)
            while not (stream.behind or stream.closed) and (left := look_at - time.monotonic()) > 0:
                if any(frame.ends for frame in await stream.take(left)):
                    return


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
