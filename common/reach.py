"""Where webhooks may go: a URL, or the addresses that its host has, in; why not, or None, out. Pure, asks no server.

Two looks: at the URL when it is given, and at the addresses each time one is about to be connected to.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

MAX_URL = 2000  # characters

_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*")  # RFC 3986's, but for #
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\.?")
_GLOBAL_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in its parts, read once, so that what is checked is what is connected to."""

    secure: bool
    host: str  # in lower case; an IPv6 address without brackets
    port: int
    authority: str  # as the Host header says it
    path: str  # with the query

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Raises ValueError, with a sentence, where the URL cannot be a webhook's."""
        if len(url) > MAX_URL:
            raise ValueError(f"must have at most {MAX_URL} characters; it has {len(url)}")
        if "#" in url:
            raise ValueError("must have no fragment (#)")
        if not _CHARACTERS.fullmatch(url):
            raise ValueError("must have only the characters of a URL; others are written as %XX, or in punycode")
        scheme, slashes, rest = url.partition("://")
        if not slashes or scheme.lower() not in ("https", "http"):
            raise ValueError("must begin with https://")
        authority = re.split("[/?]", rest, maxsplit=1)[0]
        if "@" in authority:
            raise ValueError("must have no user or password")
        found = _AUTHORITY.fullmatch(authority)
        host = (found["v6"] or found["name"]).lower() if found else ""
        secure = scheme.lower() == "https"
        port = int(found["port"]) if found and found["port"] else 443 if secure else 80
        if not (1 <= port <= 65535 and (_literal(host) or _NAME.fullmatch(host))):
            raise ValueError("must name a host, and a port from 1 to 65535 if any")
        path = rest[len(authority) :]
        return cls(secure, host, port, authority.lower(), path if path.startswith("/") else f"/{path}")


class Reach:
    """What may be reached: the internet by https, and what ``allow`` lists (hosts, addresses, CIDRs) by http, too."""

    def __init__(self, allow: Sequence[str]) -> None:
        """Raises ValueError where an entry is neither a host nor a network."""
        self._hosts: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in allow:
            try:
                self._networks.append(ip_network(entry, strict=False))
            except ValueError:
                if not _NAME.fullmatch(entry.lower()):
                    raise ValueError(f"{entry!r} is neither a host nor a network") from None
                self._hosts.add(entry.lower())

    def refuses_url(self, url: str) -> str | None:
        """What is wrong with a URL that somebody asks for; None where nothing can be said against it yet."""
        try:
            target = Target.from_url(url)
        except ValueError as error:
            return str(error)
        literal = _literal(target.host)
        if target.host in self._hosts or (literal and self._lists(literal)):
            return None
        if not target.secure:
            return "must begin with https://"
        if literal and not is_public(literal):
            return "must not name an address that is not on the internet"
        return None

    def permits(self, target: Target, addresses: Iterable[Address]) -> bool:
        """Whether every one of the ``addresses`` that the target's host has now may be connected to."""
        if target.host in self._hosts:
            return True
        return all(self._lists(each) or (target.secure and is_public(each)) for each in addresses)

    def _lists(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Whether the address is one host's on the internet; what carries an IPv4 address in it is as good as that one."""
    if isinstance(address, IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    if carried := _carried(address):
        return is_public(carried)
    return address.is_global and address in _GLOBAL_V6


def _carried(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _literal(host: str) -> Address | None:
    """The address that ``host`` is; None where it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None
