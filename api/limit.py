"""A key's id in; RateLimited out where it made too many requests in a minute. Counts in Redis, for all API processes.

Without Redis nobody is refused: an API that takes jobs is worth more than one that counts.
"""

import asyncio
import math
import time

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from common.errors import RateLimited

log = structlog.get_logger()

WINDOW_SECONDS = 60
# One atomic round trip: the first request begins the window, and no other prolongs it
COUNT = """
local made = redis.call('INCR', KEYS[1])
if made == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {made, redis.call('PTTL', KEYS[1])}
"""

PATIENCE_SECONDS = 0.3  # with what an accepted job needs of a Redis that is away, below two seconds
PAUSE_SECONDS = 5.0  # between two tries while Redis is away


class Limiter:
    """Counts each key's requests in a window of a minute, which begins with the first of them."""

    def __init__(self, broker_url: str, requests_per_minute: int) -> None:
        self._redis = Redis.from_url(broker_url, retry=Retry(NoBackoff(), 0))
        self._most = requests_per_minute
        self._resumes_at = float("-inf")

    async def count(self, key_id: str) -> None:
        """Count one request. Raises RateLimited, with the seconds to the window's end, beyond the limit."""
        if time.monotonic() < self._resumes_at:
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                made, left = await self._add(f"kiln.requests.{key_id}")
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._resumes_at = time.monotonic() + PAUSE_SECONDS
            log.warning("requests not counted, so none is refused", reason=type(error).__name__)
            return
        if made > self._most:
            seconds = max(1, math.ceil(left / 1000))
            raise RateLimited(f"this key made the {self._most} requests that it may in a minute", seconds)

    async def _add(self, name: str) -> tuple[int, int]:
        """Requests in the window, this one included, and the milliseconds left of it."""
        made, left = await self._redis.eval(COUNT, 1, name, str(WINDOW_SECONDS))
        return made, left

    async def check(self) -> None:
        """Raise RedisError or OSError unless Redis answers."""
        await self._redis.eval("return 1", 0)

    async def close(self) -> None:
        await self._redis.aclose()
