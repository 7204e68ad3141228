"""Who may call: a request in, the owner of what it asks for out; Unauthorized or Forbidden otherwise."""

import hmac
import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from common.errors import Forbidden, Unauthorized
from common.settings import Settings

LOCAL_OWNER = "local"


async def authenticate(request: Request) -> str:
    """The caller's owner name. A dependency of every /v1 route."""
    settings: Settings = request.app.state.kiln.settings
    if not settings.api_keys:
        await require_loopback(request)
        return LOCAL_OWNER
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    owner = _owner_of(key, settings) if scheme.lower() == "bearer" else None
    if owner is None:
        raise Unauthorized("this deployment needs the header Authorization: Bearer <API key>, and knows no such key")
    return owner


async def require_loopback(request: Request) -> None:
    """Refuse other machines while no API keys are set, and web pages that renamed themselves to this address."""
    if request.app.state.kiln.settings.api_keys:
        return
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not (request.client and _is_loopback(request.client.host) and (host == "localhost" or _is_loopback(host))):
        raise Forbidden("no API keys are set (KILN_API_KEYS), so only clients on this machine are served")


def _owner_of(key: str, settings: Settings) -> str | None:
    """Compares with every key, each in constant time, so that timing tells nothing about any of them."""
    found = None
    for owner, secret in settings.api_keys.items():
        if hmac.compare_digest(secret.get_secret_value().encode(), key.encode()):
            found = owner
    return found


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
