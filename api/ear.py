"""What workers tell of jobs while they run: owners in, their messages out. Touches Redis, and does without it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from common.live import channel

log = structlog.get_logger()

PAUSE_SECONDS = 5.0  # between two tries while Redis is away
LOOK_SECONDS = 0.1  # until a new listener's channel is heard
LONGEST = 1 << 16  # bytes of a message; none of ours comes near


class Ear:
    """Listens to the channels of the owners that are listened for. Everything of it runs in the event loop."""

    def __init__(self, broker_url: str, on_message: Callable[[str, dict[str, Any]], None]) -> None:
        self._url = broker_url
        self._on_message = on_message
        self._wanted: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None

    def listen(self, owner: str) -> None:
        """Listen for one more stream of ``owner``."""
        self._wanted[owner] += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._serve())

    def leave(self, owner: str) -> None:
        """Listen for one stream of ``owner`` less."""
        self._wanted -= Counter([owner])

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1)  # a broker that is away does not hear that we leave

    async def _serve(self) -> None:
        while self._wanted:
            redis = Redis.from_url(
                self._url,
                socket_connect_timeout=1,
                socket_timeout=5,
                socket_keepalive=True,
                health_check_interval=10,
            )
            try:
                async with redis, redis.pubsub(ignore_subscribe_messages=True) as heard:
                    await self._listen(heard)
            except (RedisError, OSError) as error:
                log.warning("no progress is heard of: the broker is away", reason=type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self, heard: PubSub) -> None:
        """Until nobody is listened for any more. Raises RedisError or OSError where Redis goes away."""
        owners: dict[str, str] = {}  # by channel
        while wanted := {channel(self._url, owner): owner for owner in self._wanted}:
            if more := wanted.keys() - owners.keys():
                await heard.subscribe(*more)
            if less := owners.keys() - wanted.keys():
                await heard.unsubscribe(*less)
            owners = wanted
            message = await heard.get_message(timeout=LOOK_SECONDS)
            if message and len(message["data"]) <= LONGEST and (owner := owners.get(message["channel"].decode())):
                self._pass_on(owner, message["data"])

    def _pass_on(self, owner: str, data: bytes) -> None:
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(message, dict):
            self._on_message(owner, message)
