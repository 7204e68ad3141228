"""How the broker's URL is read: one form of it out, which every client that Kiln has understands alike. Pure.

Kiln reaches Redis by way of kombu and by way of redis-py. They read the same URL in different ways: kombu takes
``rediss://`` for TLS only where the URL has a parameter of TLS, and ``redis://`` too, then.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit

_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_REQUIREMENTS = {"required": "required", "cert_required": "required", "none": "none", "cert_none": "none"}
_PARAMETERS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")


def read_broker_url(url: str) -> str:
    """``url`` with its scheme and parameters spelled out. ``rediss`` and ``valkeys`` mean TLS, always.

    Without ``ssl_cert_reqs`` the server's certificate has to be good. Raises ValueError, which shows nothing of the
    URL's values: it holds the password.
    """
    parts = urlsplit(url.strip())
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ValueError("it begins with redis:// or, for TLS, with rediss://")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("its port is no number; reserved characters of a password are percent-encoded") from None
    if not parts.hostname:
        raise ValueError("it names no host; reserved characters of a password are percent-encoded")
    if (database := parts.path.strip("/")) and not database.isdecimal():
        raise ValueError("after the host comes the number of the database, as in redis://host:6379/0")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not given.keys() <= set(_PARAMETERS):  # not told which: a password with a "?" in it looks like one
        raise ValueError(f"the parameters that it may have are {', '.join(_PARAMETERS)}")
    if scheme == "redis" and given:
        raise ValueError("parameters of TLS want rediss://")
    if scheme == "rediss":
        asked = given.get("ssl_cert_reqs", "required").lower()
        if asked not in _REQUIREMENTS:
            raise ValueError("ssl_cert_reqs is required or none")
        given["ssl_cert_reqs"] = _REQUIREMENTS[asked]
    return parts._replace(scheme=scheme, query=urlencode(given), fragment="").geturl()
