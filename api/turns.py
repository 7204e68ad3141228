"""Large requests take turns: a few at a time, one of each owner's. What waits holds no thread and no connection."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.pools import renew
from common.errors import Overloaded, TooManyOpen

LARGE_BYTES = 1 << 18  # of a body
LARGE_JOBS = 1000  # of a batch
AT_ONCE = 2  # of the threads that write much: the others stay free for what is small
OF_OWNER = 4  # that have or await their turn
OF_ALL = 16


class Turns:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._in_hand: Counter[str] = Counter()
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def taken(self, owner: str, *, large: bool) -> AsyncIterator[None]:
        """A turn during the block; at once where the request is not ``large``.

        Raises TooManyOpen where the owner, Overloaded where all have too many in hand.
        """
        if not large:
            yield
            return
        if self._in_hand[owner] >= OF_OWNER:
            raise TooManyOpen(f"{OF_OWNER} large requests of yours are worked on: wait for one of them")
        if self._in_hand.total() >= OF_ALL:
            raise Overloaded("the API works on as many large requests as it can take")
        self._in_hand[owner] += 1
        try:
            async with self._locks.setdefault(owner, asyncio.Lock()), self._turns:
                renew()
                yield
        finally:
            self._in_hand[owner] -= 1
            if not self._in_hand[owner]:
                del self._in_hand[owner], self._locks[owner]
