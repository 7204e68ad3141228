"""Who may call: a request in, the owner of what it asks for out; Unauthorized, Forbidden or RateLimited otherwise.

Keys are made by ``kiln keys create`` and lie in the database. Until the first one is made, clients on this machine
are served without, as one owner; from then on every call needs one, also when all are revoked.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import Request

from api.keyring import Keyring
from api.limit import Limiter
from common.errors import Forbidden, Unauthorized
from common.jobs.keys import ApiKey, Scope

LOCAL_OWNER = "local"


def requires(*scopes: Scope) -> Callable[[Request], Awaitable[str]]:
    """A dependency that gives the caller's owner name, if the caller may do what ``scopes`` stand for.

    It notes on the request whether its answer may show what is stored: see receipt.py.
    """

    async def owner(request: Request) -> str:
        keyring: Keyring = request.app.state.kiln.keyring
        if not await keyring.in_use():
            _require_loopback(request)
            request.state.may_read = True
            return LOCAL_OWNER
        key = await _authenticate(request, keyring)
        for scope in scopes:
            if not key.allows(scope):
                raise Forbidden(f"this key lacks the scope {scope}")
        request.state.may_read = key.allows(Scope.READ)
        return key.owner

    return owner


async def _authenticate(request: Request, keyring: Keyring) -> ApiKey:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    key = await keyring.verify(text) if scheme.lower() == "bearer" else None
    if key is None:
        raise Unauthorized("this deployment needs the header Authorization: Bearer <API key>, and knows no such key")
    limiter: Limiter = request.app.state.kiln.limiter
    await limiter.count(key.id)
    return key


def _require_loopback(request: Request) -> None:
    """Refuse other machines while there are no keys, and web pages that renamed themselves to this address."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not (request.client and _is_loopback(request.client.host) and (host == "localhost" or _is_loopback(host))):
        raise Forbidden("no API key was made yet (kiln keys create), so only clients on this machine are served")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
