"""Calls that wait for a service in; their results out, or Unavailable in time. Each kind has threads of its own.

A service that hangs so makes the calls fail that need it, and delays no others: a bulkhead, as M. Nygard's "Release
It!" calls it. What a call left behind when it was given up ends by the service's own time-outs, and keeps its thread
until then.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from api.processor import waited_for_processor
from common.errors import StorageError, Unavailable

ANSWER_SECONDS = 1.1  # that a request waits for services, all in all: below the two within which every answer is due
LEAST_SECONDS = 0.1  # of which each call gets some
LOOK_SECONDS = 0.4  # between two looks whether what takes long goes on
LEAST_PROBE_SECONDS = 0.5  # for a probe beside work that keeps the processor: with it still below two
MOST_STARVED_SECONDS = 8.0  # without a processor, or the interpreter, that are not counted against a service
SATURATED = 0.7  # of the time this process computes
PROBE_SECONDS = 2.0  # for what has taken longer than an answer may
MOST_LEFT = 1000  # calls that nobody waits for

P = ParamSpec("P")
T = TypeVar("T")

_waited: ContextVar[list[float]] = ContextVar("waited")


def renew() -> None:
    """Let the request wait for services as if it had just come: because it was held, or its body took long."""
    _waited.set([0.0])


@dataclass(slots=True, eq=False)
class _Call:
    """One call, since when a thread is at it, and which."""

    work: Callable[[], Any]
    asked: float
    began: float | None = None
    thread: int = 0
    thread_waited: float = 0.0
    computed: float = 0.0

    def start(self) -> None:
        self.thread = threading.get_native_id()
        self.thread_waited = waited_for_processor(self.thread)
        self.computed = time.process_time()
        self.began = time.monotonic()

    def starved(self) -> float:
        """For how many seconds its thread has waited for a processor, or for the interpreter: no fault of a service's.

        For the interpreter only where this process computed nearly all the time: then it is what everybody waits for.
        """
        if self.began is None:
            return 0.0
        waited = waited_for_processor(self.thread) - self.thread_waited
        own = waited + time.process_time() - self.computed
        saturated = own >= SATURATED * (time.monotonic() - self.began)
        return min(MOST_STARVED_SECONDS, own if saturated else waited)

    @property
    def waited(self) -> bool:
        """Whether it had to wait for its thread."""
        return self.began is None or self.began - self.asked > LOOK_SECONDS


class Pool:
    """Some threads. Calls are known to be quick; or there is a ``probe``, which raises where their service is away."""

    def __init__(self, threads: int, probe: Callable[[], Awaitable[object]] | None = None) -> None:
        self._limiter = CapacityLimiter(threads)
        self._probe = probe
        self._served_at = self._failed_at = float("-inf")
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``call`` returns. Raises Unavailable where that is not to be had in time.

        A call that waits for its turn goes on waiting while others are served, and fails when they do not come back.
        """
        mine = _Call(partial(call, *args, **kwargs), time.monotonic())
        task = self._begin(mine)
        with _spending(mine.starved) as left:
            try:
                while not (await asyncio.wait({task}, timeout=min(LOOK_SECONDS, max(LEAST_SECONDS, left()))))[0]:
                    await self._check(mine, left())
                result: T = task.result()
                return result
            finally:
                if mine.began is None:
                    task.cancel()

    async def leave(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Begin the call, and go on without it unless it is over in a moment; not at all where many wait already."""
        if len(self._tasks) < MOST_LEFT:
            await asyncio.wait(
                {self._begin(_Call(partial(call, *args, **kwargs), time.monotonic()))}, timeout=LOOK_SECONDS
            )

    async def stream(self, pieces: Iterator[T]) -> AsyncIterator[T]:
        """The pieces, each made in a thread when it is wanted, and waited for as long as that takes."""
        end = object()
        making: asyncio.Task[Any] | None = None
        try:
            while True:
                making = self._begin(_Call(partial(next, pieces, end), time.monotonic()))
                piece = await asyncio.shield(making)
                if piece is end:
                    return
                yield piece
        finally:
            if hasattr(pieces, "close"):  # in a thread as well: it may wait for threads, and for connections, to end
                self._keep(asyncio.get_running_loop().create_task(self._close(pieces.close, making)))

    def _begin(self, call: _Call) -> asyncio.Task[Any]:
        """A task of its own, for it outlives a request that gives up: no thread is counted as free that is not."""
        return self._keep(asyncio.get_running_loop().create_task(self._work(call)))

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # or asyncio would log those that nobody waits for any more

    async def _work(self, call: _Call) -> Any:
        def work() -> Any:
            call.start()
            return call.work()

        try:
            result = await anyio.to_thread.run_sync(work, limiter=self._limiter)
        except (Unavailable, StorageError):
            self._failed_at = time.monotonic()
            raise
        self._served_at = time.monotonic()
        return result

    async def _check(self, call: _Call, left: float) -> None:
        """Raise Unavailable where there is no hope for the call."""
        now = time.monotonic()
        failing = now - self._failed_at < ANSWER_SECONDS
        if left <= 0 and call.waited and (failing or now - self._served_at > ANSWER_SECONDS / 2):
            raise Unavailable("a service that this needs does not answer")
        if call.began is None:
            return
        if self._probe:
            patience = PROBE_SECONDS if now - call.began > ANSWER_SECONDS else max(LEAST_PROBE_SECONDS, left)
            await self._ask(self._probe, patience)
        elif left <= 0 and (not call.waited or now - call.began - call.starved() > ANSWER_SECONDS):
            raise Unavailable("a service that this needs takes too long to answer")

    async def _ask(self, probe: Callable[[], Awaitable[object]], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await probe()
        except TimeoutError as error:
            raise Unavailable("a service that this needs does not answer") from error

    async def _close(self, close: Callable[[], None], making: asyncio.Task[Any] | None) -> None:
        if making:
            await asyncio.wait({making})
        await anyio.to_thread.run_sync(close, limiter=self._limiter)


class Shared(Generic[T]):
    """An answer that is the same for all who ask while it is made, and for some seconds after."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._made_at = float("-inf")
        self._making: asyncio.Task[T] | None = None

    async def get(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        making = self._making
        if making is None or (making.done() and time.monotonic() - self._made_at > self._seconds):
            self._making = making = asyncio.get_running_loop().create_task(make())
            making.add_done_callback(self._note)
        return await asyncio.shield(making)

    def _note(self, _: asyncio.Task[T]) -> None:
        self._made_at = time.monotonic()


async def in_time(answer: Awaitable[T]) -> T:
    """The same for what needs no thread. Raises Unavailable where the request has waited for too long, all in all."""
    with _spending() as left:
        try:
            async with asyncio.timeout(max(LEAST_SECONDS, left())):
                return await answer
        except TimeoutError as error:
            raise Unavailable("a service that this needs does not answer") from error


@contextmanager
def _spending(starved: Callable[[], float] = lambda: 0.0) -> Iterator[Callable[[], float]]:
    """What is waited in the block is the request's, but for what was ``starved``; gives how many seconds are left."""
    try:
        waited = _waited.get()
    except LookupError:
        renew()
        waited = _waited.get()
    began = time.monotonic()
    try:
        yield lambda: ANSWER_SECONDS - waited[0] - (time.monotonic() - began - starved())
    finally:
        waited[0] += time.monotonic() - began - starved()
