"""The event log in; every open stream's share of it out. One for each API process; while there are none, it only
looks now and then where the log ends, which is where a new one begins.

All its readings, for however many streams, are made by one thread and so with one connection for a moment at a time.
Redis only says sooner that there is something to read, and carries what is not in the log.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Engine

from api.ear import Ear
from api.frames import Frame, tell_event, tell_news
from api.pools import in_time
from api.stream import Stream
from common.errors import Unavailable
from common.jobs.log import PAGE, Event, Tail, Watch, count_unfinished, read_events, read_on, skip_on
from common.jobs.read import kept_images
from common.jobs.state import TERMINAL, Status
from common.objects import Objects

log = structlog.get_logger()

POLL_SECONDS = 0.5
SOON_SECONDS = 0.05  # where somebody is about to commit
IDLE_SECONDS = 2.0  # while nobody listens
AWAY_SECONDS = 2.0  # between two tries while the database is away
REMEMBERED = 1000  # jobs that are over, of which a worker may still be heard

P = ParamSpec("P")
T = TypeVar("T")


class Hub:
    """Follows the log while streams are open, and gives each what it watches."""

    def __init__(self, engine: Engine, objects: Objects, url_seconds: int, broker_url: str) -> None:
        self._engine = engine
        self._objects = objects
        self._url_seconds = url_seconds
        self._ear = Ear(broker_url, self._hear)
        self._streams: dict[tuple[str, UUID | None], set[Stream]] = defaultdict(set)
        self._tail = Tail()
        self._asking: list[asyncio.Future[int]] = []  # where the log ends, by a look that is still to come
        self._heard: list[tuple[str, dict[str, Any]]] = []
        self._woken = asyncio.Event()
        self._over: dict[UUID, None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events")
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Follow the log from now on, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    @contextmanager
    def subscribed(self, watch: Watch, *, news: bool = True) -> Iterator[Stream]:
        """A stream that is given what it watches during the block; ``news``: what workers tell, too."""
        stream, key = Stream(watch, news=news), _key(watch)
        stream.closed = self._closed
        self._streams[key].add(stream)
        self._ear.listen(watch.owner)
        try:
            yield stream
        finally:
            self._ear.leave(watch.owner)
            self._streams[key].discard(stream)
            if not self._streams[key]:
                del self._streams[key]
            self._woken.set()

    async def end(self) -> int:
        """Up to which event nothing can be added to the log any more: behind it a new stream begins.

        That is the newest one, unless somebody writes just now. Raises Unavailable where that cannot be told in time.
        """
        asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asking.append(asked)
        self._woken.set()
        return await in_time(asked)

    async def read(self, stream: Stream, *, finished: bool) -> Sequence[Frame]:
        """The next of what is in the log behind the stream's position; () where there is no more.

        Of what is ``finished``, and of a job, nothing can be under way that comes before something that is there.
        """
        stream.begin_reading()
        until = None if finished or stream.watch.job_id else self._tail.end
        found = await self._ask(read_events, self._engine, stream.watch, stream.position, until)
        told = await self._ask(self._tell, found)
        return [frame for event in found for frame in stream.pass_on(told[event.id])]

    async def unfinished(self, watch: Watch) -> int | None:
        """How many of the watched jobs are not over; None where there are none of these."""
        return await self._ask(count_unfinished, self._engine, watch)

    async def close(self) -> None:
        """End every stream. Nothing more is served."""
        self._closed = True
        for stream in [stream for streams in self._streams.values() for stream in streams]:
            stream.close()
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._ear.close()

    async def _ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args, **kwargs))

    def _hear(self, owner: str, message: dict[str, Any]) -> None:
        self._heard.append((owner, message))
        self._woken.set()

    async def _serve(self) -> None:
        """What was heard is shown after the changes that came before it."""
        due = time.monotonic()
        while not self._closed:
            heard, self._heard = self._heard, []
            changed = any(message.get("event") in ("stage", "settled") for _, message in heard)
            if changed or self._asking or time.monotonic() >= due:
                due = time.monotonic() + await self._look()
            for owner, message in heard:
                self._show(owner, message)
            with suppress(TimeoutError):
                async with asyncio.timeout(due - time.monotonic()):
                    await self._woken.wait()
            self._woken.clear()

    async def _look(self) -> float:
        """Read on in the log and give it out; returns after how many seconds to look again."""
        asking, self._asking = self._asking, []
        try:
            if not self._streams:
                return await self._skip(asking)
            tail, found = await self._ask(read_on, self._engine, self._tail)
            watched = [event for event in found if any(self._watching(event.owner, event.job_id, event.batch_id))]
            told = await self._ask(self._tell, watched)
        except Unavailable:
            return AWAY_SECONDS
        except Exception:  # a task that ended in silence would leave every stream without news
            log.exception("the event log was not read")
            return AWAY_SECONDS
        self._tail = tail  # and all that follows at once, without a pause in which a stream could come or go
        self._answer(asking)
        for event in found:
            for stream in self._watching(event.owner, event.job_id, event.batch_id):
                stream.offer(told.get(event.id))
            if event.status in TERMINAL:
                self._over[event.job_id] = None
        for job_id in list(self._over)[:-REMEMBERED]:
            del self._over[job_id]
        if len(found) == PAGE:
            return 0
        return SOON_SECONDS if tail.fence else POLL_SECONDS

    async def _skip(self, asking: list[asyncio.Future[int]]) -> float:
        """Go on without reading. Who subscribes meanwhile begins behind the end that it asked for."""
        tail = await self._ask(skip_on, self._engine, self._tail)
        if self._streams:
            self._asking += asking
            return 0
        self._tail = tail
        self._answer(asking)
        return SOON_SECONDS if asking and tail.end is None else IDLE_SECONDS

    def _answer(self, asking: list[asyncio.Future[int]]) -> None:
        """Tell those who ask where the log ends; later, where that is not known yet."""
        for asked in asking:
            if asked.done():  # given up
                continue
            if self._tail.end is None:
                self._asking.append(asked)
            else:
                asked.set_result(self._tail.end)

    def _tell(self, found: Sequence[Event]) -> dict[int, list[Frame]]:
        """The frames of each change. In the thread: it reads, and signs URLs."""
        done = [event.job_id for event in found if event.status is Status.SUCCEEDED]
        images = kept_images(self._engine, done) if done else {}
        return {
            event.id: tell_event(
                event,
                images.get(event.job_id, []) if event.status is Status.SUCCEEDED else [],
                self._objects,
                self._url_seconds,
            )
            for event in found
        }

    def _show(self, owner: str, message: dict[str, Any]) -> None:
        frame = tell_news(message)
        if frame is not None and frame.job_id not in self._over:
            for stream in self._watching(owner, frame.job_id, frame.batch_id):
                stream.show(frame)

    def _watching(self, owner: str, job_id: UUID, batch_id: UUID | None) -> Iterator[Stream]:
        for thing in {None, job_id, batch_id}:
            yield from self._streams.get((owner, thing), ())


def _key(watch: Watch) -> tuple[str, UUID | None]:
    return watch.owner, watch.job_id or watch.batch_id
