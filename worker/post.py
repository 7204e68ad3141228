"""One POST to a stranger's URL: a body and headers in, the status or why there is none out. Touches the network.

The host is resolved once and its addresses are checked; one of those is connected to, by its number, and the
certificate has to be the host's. No redirect is followed, no proxy asked, no cookie kept. What the receiver says after
its status is thrown away, and all of it together may take TOTAL_SECONDS.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Any

import httpcore2

from common.reach import Address, Reach, Target

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
MAX_ANSWER_BYTES = 64 << 10
MAX_ADDRESSES = 4  # of one host that are tried

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

# Not the event loop's own threads: a name server that is silent would keep them
_resolvers = ThreadPoolExecutor(16, thread_name_prefix="resolve")


@dataclass(frozen=True, slots=True)
class Answer:
    """The receiver's status; or in one word why there is none."""

    status_code: int | None
    error: str | None


@cache
def _internet() -> ssl.SSLContext:
    """The authorities that this machine trusts. Read once: it takes the time of many deliveries."""
    return httpcore2.default_ssl_context()


class _Refused(Exception):
    """The host has an address that may not be connected to."""


class _Unresolved(Exception):
    """The host has no address."""


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses that the system knows of a host. Raises OSError."""
    found = await asyncio.get_running_loop().run_in_executor(
        _resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    return [ip_address(place[0]) for *_, place in found]


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    reach: Reach,
    *,
    resolve: Resolve = resolve,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Send it and wait for the status, ``TOTAL_SECONDS`` at most whatever the other side does. Raises nothing of it."""
    heard: list[int] = []  # a status that came counts, though the rest of the answer never ends
    try:
        target = Target.from_url(url)
        async with asyncio.timeout(TOTAL_SECONDS):
            await _exchange(target, body, headers, _Checked(target, reach, resolve), context, heard)
    except (ValueError, _Refused):
        return Answer(None, "address_refused")
    except _Unresolved:
        return Answer(None, "name_not_resolved")
    except (TimeoutError, httpcore2.TimeoutException):
        return Answer(heard[0], None) if heard else Answer(None, "timeout")
    except httpcore2.ConnectError as error:
        return Answer(None, "tls_failed" if _is_of_tls(error) else "connect_failed")
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
        return Answer(heard[0], None) if heard else Answer(None, "no_answer")
    return Answer(heard[0], None)


async def _exchange(
    target: Target,
    body: bytes,
    headers: Mapping[str, str],
    network: httpcore2.AsyncNetworkBackend,
    context: ssl.SSLContext | None,
    heard: list[int],
) -> None:
    context = context or _internet()
    url = httpcore2.URL(
        scheme="https" if target.secure else "http", host=target.host, port=target.port, target=target.path
    )
    own = {"Host": target.authority, "Content-Length": str(len(body)), "Connection": "close"}
    timeouts = {"connect": CONNECT_SECONDS, "read": TOTAL_SECONDS, "write": TOTAL_SECONDS}
    async with (
        httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=network) as pool,
        pool.stream(
            "POST", url, headers=list((own | dict(headers)).items()), content=body, extensions={"timeout": timeouts}
        ) as response,
    ):
        heard.append(response.status)
        size = 0
        async for chunk in response.aiter_stream():
            size += len(chunk)
            if size >= MAX_ANSWER_BYTES:
                return


def _is_of_tls(error: BaseException | None) -> bool:
    """Whether TLS is why, at the end of the chain of causes."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


class _Checked(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that were checked, and to no others. TLS goes on asking for the host's certificate."""

    def __init__(self, target: Target, reach: Reach, resolve: Resolve) -> None:
        self._target = target
        self._reach = reach
        self._resolve = resolve
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        async with asyncio.timeout(timeout):
            addresses = await self._look_up(host, port)
            patience = CONNECT_SECONDS / len(addresses)
            for address in addresses[:-1]:
                with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                    return await self._network.connect_tcp(str(address), port, timeout=patience)
            return await self._network.connect_tcp(str(addresses[-1]), port, timeout=patience)

    async def _look_up(self, host: str, port: int) -> Sequence[Address]:
        try:
            addresses = (await self._resolve(host, port))[:MAX_ADDRESSES]
        except (OSError, UnicodeError):
            raise _Unresolved from None
        if not addresses:
            raise _Unresolved
        if not self._reach.permits(self._target, addresses):
            raise _Refused
        return addresses
