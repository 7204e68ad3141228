"""The text of a key in, the live key that it is out; the database is asked once in seconds, not at every poll."""

import asyncio
import time
from contextlib import suppress

from sqlalchemy import Engine

from api.pools import Pool
from common.errors import Unavailable
from common.jobs.keys import ApiKey, any_key, find_key, note_use, public_id

CACHE_SECONDS = 5.0  # for so long a revoked key may still be served; and between two looks while the database is away
OUTAGE_SECONDS = 300.0  # of the database, for which a key that was proven before is served; nobody can revoke it then
NEVER = float("-inf")


class Keyring:
    """The keys of one deployment, as they were at most CACHE_SECONDS ago, or before the database went away.

    Raises Unavailable where it knows nothing and the database is away.
    """

    def __init__(self, engine: Engine, pool: Pool) -> None:
        self._engine = engine
        self._pool = pool
        self._in_use = False
        self._looked_at = self._away_at = NEVER
        self._good: dict[str, tuple[float, ApiKey]] = {}  # by id; only those that were proven, so it stays small
        self._noting: set[asyncio.Task[None]] = set()

    async def in_use(self) -> bool:
        """Whether a key was ever made. Once one was, there is no way back, and nothing to look up."""
        if not self._in_use and self._is_old(self._looked_at):
            try:
                self._in_use = await self._pool.run(any_key, self._engine)
                self._looked_at = time.monotonic()
            except Unavailable:
                self._serve_on(self._looked_at)
        return self._in_use

    async def verify(self, text: str) -> ApiKey | None:
        """The key whose text this is; None where it is unknown, revoked or expired."""
        key_id = public_id(text)
        if key_id is None:
            return None
        read_at, key = self._good.get(key_id, (NEVER, None))
        if key is None or self._is_old(read_at):
            try:
                return await self._look_up(key_id, text)
            except Unavailable:
                self._serve_on(read_at)
        return key if key and key.matches(text) else None

    async def _look_up(self, key_id: str, text: str) -> ApiKey | None:
        read_at = time.monotonic()
        key = await self._pool.run(find_key, self._engine, key_id)
        if not (key and key.live):
            self._good.pop(key_id, None)
            return None
        if not key.matches(text):
            return None
        self._good[key_id] = (read_at, key)
        task = asyncio.get_running_loop().create_task(self._note(key_id))
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)
        return key

    async def _note(self, key_id: str) -> None:
        """Beside the request: it is not to wait, nor to fail, for whoever holds the key's row."""
        with suppress(Unavailable):
            await self._pool.run(note_use, self._engine, key_id)

    def _is_old(self, read_at: float) -> bool:
        """Whether to read again what was read then: not where that has just failed, if there is anything to go by."""
        now = time.monotonic()
        return now - read_at > OUTAGE_SECONDS or min(now - read_at, now - self._away_at) > CACHE_SECONDS

    def _serve_on(self, read_at: float) -> None:
        """Go by what was read then, for the database is away; raises the error again where that is too long ago."""
        self._away_at = time.monotonic()
        if self._away_at - read_at > OUTAGE_SECONDS:
            raise  # what is being handled
