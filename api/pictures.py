"""Pictures out of the object store for those who wait: a key in; bytes out, or StorageError in time.

Asynchronous, and so without threads that a silent store could take away from others. What is made at leisure, as an
archive, reads with common/objects.py.
"""

import asyncio
from collections.abc import AsyncIterator

import httpx2

from common.errors import NotFound, StorageError
from common.objects import Objects

OPEN_SECONDS = 1.2  # until an answer begins
IDLE_SECONDS = 10.0  # between two pieces of one that a client reads
BYTES_PER_SECOND = 1 << 20  # that a store gives which is not called slow
MISSING, NO_OBJECT = 404, b"NoSuchKey"


class Pictures:
    """The bucket's objects, for reading."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=10)
        self._http = httpx2.AsyncClient(timeout=IDLE_SECONDS, limits=limits, trust_env=False)

    async def open(self, key: str) -> AsyncIterator[bytes]:
        """The object's bytes as they come. Raises NotFound and StorageError, those of its beginning at once."""
        return _pieces(await self._begin("GET", key), key)

    async def read(self, key: str, size: int) -> bytes:
        """The whole object of ``size`` bytes."""
        try:
            async with asyncio.timeout(OPEN_SECONDS + size / BYTES_PER_SECOND):
                return b"".join([piece async for piece in await self.open(key)])
        except TimeoutError as error:
            raise StorageError(f"the object store is too slow at {key}") from error

    async def check(self) -> None:
        """Raise StorageError unless the bucket is there and answers."""
        try:
            await (await self._begin("HEAD")).aclose()
        except NotFound as error:
            raise StorageError("there is no such bucket") from error

    async def close(self) -> None:
        await self._http.aclose()

    async def _begin(self, method: str, key: str = "") -> httpx2.Response:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                response = await self._send(method, key)
                if self._objects.clock.learn(response.status_code, response.headers.get("date")):
                    await response.aclose()
                    response = await self._send(method, key)
                told = b"" if response.is_success else await response.aread()
        except (httpx2.HTTPError, OSError) as error:  # TimeoutError is an OSError
            raise StorageError(f"the object store does not answer: {type(error).__name__}") from error
        if response.is_success:
            return response
        if response.status_code == MISSING and (NO_OBJECT in told or not key):  # else it may be a proxy's word for it
            raise NotFound(f"there is no object {key}")
        raise StorageError(f"the object store failed at {key or 'the bucket'}: {response.status_code}")

    async def _send(self, method: str, key: str) -> httpx2.Response:
        url, headers = self._objects.sign(method, key)
        headers["Accept-Encoding"] = "identity"
        return await self._http.send(self._http.build_request(method, url, headers=headers), stream=True)


async def _pieces(response: httpx2.Response, key: str) -> AsyncIterator[bytes]:
    try:
        async for piece in response.aiter_raw():
            yield piece
    except httpx2.HTTPError as error:
        raise StorageError(f"the object store broke off at {key}: {type(error).__name__}") from error
    finally:
        await response.aclose()
