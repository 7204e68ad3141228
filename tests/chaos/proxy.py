"""tests/proxy.py by its former name, for those who have not moved yet."""

from tests.proxy import Proxy, proxied

__all__ = ["Proxy", "proxied"]
