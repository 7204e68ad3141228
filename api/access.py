"""Who may call: a request in, the owner of what it asks for out; Unauthorized, Forbidden or RateLimited otherwise.

Keys are made by ``kiln keys create`` and lie in the database. Until the first one is made, clients on this machine
are served without, as one owner; from then on every call needs one, also when all are revoked. A browser on this
machine is such a client whatever page it shows, so until then it is served for our own page only.
"""

import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from api.keyring import Keyring
from api.limit import Limiter
from common.errors import Forbidden, KilnError, Unauthorized
from common.jobs.keys import ApiKey, Scope

LOCAL_OWNER = "local"


class Requires:
    """A dependency that gives the caller's owner name, if the caller may do what ``scopes`` stand for.

    It looks, and counts, once a request: api/route.py calls it before the body is read, and FastAPI after. It notes
    on the request whether its answer may show what is stored: see receipt.py.
    """

    def __init__(self, *scopes: Scope) -> None:
        self._scopes = scopes

    async def __call__(self, request: Request) -> str:
        if not hasattr(request.state, "owner"):
            request.state.owner = await self.look(request)
        owner: str = request.state.owner
        return owner

    async def look(self, request: Request) -> str:
        """The owner, by the keys as they are now."""
        keyring: Keyring = request.app.state.kiln.keyring
        if not await keyring.in_use():
            _require_loopback(request)
            _require_own_page(request)
            request.state.may_read = True
            return LOCAL_OWNER
        key = await _authenticate(request, keyring)
        for scope in self._scopes:
            if not key.allows(scope):
                raise Forbidden(f"this key lacks the scope {scope}")
        request.state.may_read = key.allows(Scope.READ)
        return key.owner


async def may_read(request: Request) -> bool:
    """Whether the caller is one who may read: for what tells everybody something, and such callers more."""
    try:
        await Requires(Scope.READ).look(request)
    except KilnError:
        return False
    return True


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
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:  # brackets without an address between them
        host = ""
    if not (request.client and _is_loopback(request.client.host) and (host == "localhost" or _is_loopback(host))):
        raise Forbidden("no API key was made yet (kiln keys create), so only clients on this machine are served")


def _require_own_page(request: Request) -> None:
    """Refuse what a browser sends for another site's page: who is served for being here is served behind any page.

    Fetch metadata where the browser sends it, else Origin; programs send neither. A link to a report may be followed.
    """
    sent = request.headers
    site = sent.get("sec-fetch-site", "none")
    followed = request.method in ("GET", "HEAD") and (sent.get("sec-fetch-mode"), sent.get("sec-fetch-dest")) == (
        "navigate",
        "document",
    )
    if site not in ("none", "same-origin") and not followed:
        raise Forbidden("another site's page asked for this; without API keys only Kiln's own page is served")
    origin = sent.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != sent.get("host", "").lower():
        raise Forbidden(f"a page of {origin[:200]} asked for this; without API keys only Kiln's own page is served")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
