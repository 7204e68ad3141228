"""A request's body as it comes in: whole, or an error. Limits its length, its pace, and the room that bodies take."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import Message

from common.errors import BodyCut, BodyTooLarge, BodyTooSlow, Overloaded, RateLimited

GRACE_SECONDS = 20.0  # that any body may take
PACE = 32 << 10  # bytes, each of which buys a further second
SMALL = 64 << 10  # bytes: what no room is asked for, and what is kept in memory of a body that goes to disk
OWNERS = 4  # whose bodies may be as long as the longest at the same moment
RETRY_SECONDS = 5
MAX_KEYS = 10_000  # of JSON, in texts that look like it, too

_KEY = re.compile(rb'"\s*:')


class Room:
    """How many bytes of bodies may be on their way: ``of_owner`` of one owner, OWNERS times that in all."""

    def __init__(self, of_owner: int) -> None:
        self._of_owner = of_owner
        self._taken: Counter[str] = Counter()

    def take(self, owner: str, count: int) -> None:
        """Raises RateLimited where the owner, Overloaded where all owners would have too many."""
        if self._taken[owner] + count > self._of_owner:
            said = f"your requests may send {self._of_owner} bytes at once: let those that run end first"
            raise RateLimited(said, RETRY_SECONDS)
        if self._taken.total() + count > OWNERS * self._of_owner:
            raise Overloaded("others are sending as much as the API can take at once")
        self._taken[owner] += count

    def give_back(self, owner: str, count: int) -> None:
        self._taken[owner] -= count
        if not self._taken[owner]:
            del self._taken[owner]


class Body:
    """Stands in for a request's ``receive``. What it gives as the last part of a body is that."""

    def __init__(self, request: Request, most: int, owner: str, room: Room) -> None:
        announced = request.headers.get("content-length", "")
        self._announced = int(announced) if announced.isdigit() else None
        self._receive = request.receive
        self._most = most
        self._owner = owner
        self._room = room
        self._taken = 0
        self._size = 0
        self._over = False
        self._began: float | None = None

    def refuse_too_long(self) -> None:
        """Raise BodyTooLarge for what is announced, without waiting for it."""
        self._check_length(self._announced or 0)

    async def receive(self) -> Message:
        """The next part; behind the last one, what the client does next.

        Raises BodyCut where the connection ends before the body, BodyTooSlow, BodyTooLarge, and what Room does.
        """
        if self._over:
            return await self._receive()
        self._take_room(self._announced or 0)
        message = await self._next()
        if message["type"] == "http.disconnect":
            raise BodyCut("the connection ended before the body did")
        self._size += len(message.get("body", b""))
        self._check_length(self._size)
        self._take_room(self._size)
        self._over = not message.get("more_body", False)
        if self._over and self._announced not in (None, self._size):
            raise BodyCut(f"the body has {self._size} bytes, and {self._announced} were announced")
        return message

    def release(self) -> None:
        """Give the room back."""
        self._room.give_back(self._owner, self._taken)
        self._taken = 0

    async def _next(self) -> Message:
        now = asyncio.get_running_loop().time()
        self._began = self._began or now
        try:
            async with asyncio.timeout_at(self._began + GRACE_SECONDS + self._size / PACE):
                return await self._receive()
        except TimeoutError:
            raise BodyTooSlow(
                f"after {now - self._began:.0f} s there are {self._size} bytes of the body: "
                f"it may take {GRACE_SECONDS:.0f} s, and one more for each {PACE} bytes"
            ) from None

    def _check_length(self, size: int) -> None:
        if size > self._most:
            raise BodyTooLarge(f"the body has more than {self._most} bytes")

    def _take_room(self, size: int) -> None:
        if size > max(SMALL, self._taken):
            self._room.take(self._owner, size - self._taken)
            self._taken = size


def has_body(request: Request) -> bool:
    """Whether the request announces a body: one of chunks may turn out to be empty."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def refuse_values(body: bytes, most: int) -> None:
    """Raise BodyTooLarge where JSON may hold over ``most`` values: a few bytes each here, and hundreds once read.

    Of keys it may have MAX_KEYS: each that is unknown is an error.
    """
    if next(islice(_KEY.finditer(body), MAX_KEYS, None), None) is not None:
        raise BodyTooLarge(f"the body holds over {MAX_KEYS} names of fields")
    if sum(map(body.count, (b",", b"[", b"{"))) > most:
        raise BodyTooLarge(f"the body holds over {most} values")


@contextmanager
def checked(request: Request, most: int, owner: str, room: Room) -> Iterator[Request]:
    """The request, its body checked while it is read; at most ``most`` bytes. Raises BodyTooLarge."""
    body = Body(request, most, owner, room)
    body.refuse_too_long()
    try:
        yield Request(request.scope, body.receive)
    finally:
        body.release()


@asynccontextmanager
async def spooled(request: Request) -> AsyncIterator[BinaryIO]:
    """The whole body as a file, on disk unless it is small, while the block lasts. Raises as Body.receive does."""
    with SpooledTemporaryFile(max_size=SMALL) as file:
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size <= SMALL:
                    file.write(chunk)
                else:
                    await run_in_threadpool(file.write, chunk)
        except OSError as error:
            raise Overloaded("there is no room to keep the body while it is read") from error
        file.seek(0)
        yield cast(BinaryIO, file)
