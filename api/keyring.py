"""The text of a key in, the live key that it is out; the database is asked once in seconds, not at every poll."""

import time

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Engine

from common.jobs.keys import ApiKey, any_key, find_key, note_use, public_id

CACHE_SECONDS = 5.0  # for so long a revoked key may still be served


class Keyring:
    """The keys of one deployment, as they were at most CACHE_SECONDS ago. Raises Unavailable without the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._in_use = False
        self._looked_at = float("-inf")
        self._good: dict[str, tuple[float, ApiKey]] = {}  # by id; only those that were proven, so it stays small

    async def in_use(self) -> bool:
        """Whether a key was ever made. Once one was, there is no way back, and nothing to look up."""
        if not self._in_use and _is_old(self._looked_at):
            self._in_use = await run_in_threadpool(any_key, self._engine)
            self._looked_at = time.monotonic()
        return self._in_use

    async def verify(self, text: str) -> ApiKey | None:
        """The key whose text this is; None where it is unknown, revoked or expired."""
        key_id = public_id(text)
        if key_id is None:
            return None
        read_at, key = self._good.get(key_id, (float("-inf"), None))
        if key is None or _is_old(read_at):
            return await run_in_threadpool(self._look_up, key_id, text)
        return key if key.matches(text) else None

    def _look_up(self, key_id: str, text: str) -> ApiKey | None:
        read_at = time.monotonic()
        key = find_key(self._engine, key_id)
        if not (key and key.live and key.matches(text)):
            return None
        note_use(self._engine, key_id)
        self._good[key_id] = (read_at, key)
        return key


def _is_old(read_at: float) -> bool:
    return time.monotonic() - read_at > CACHE_SECONDS
