"""A home folder in, a running Valkey or Redis on loopback out, with its data kept there."""

from pathlib import Path

from common.local import children
from common.local.binaries import find_redis
from common.local.children import Child
from common.local.ports import answers


def start_redis(home: Path, *, port: int, password: str) -> Child:
    """Start the server. Its configuration goes in through stdin, so that no process list shows the password."""
    folder = home / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    configuration = f"""
        bind 127.0.0.1
        port {port}
        requirepass {password}
        dir "{folder}"
        appendonly yes
        maxmemory-policy noeviction
    """
    server = children.start(home, "redis", [find_redis(), "-"], listens=True, folder=folder)
    server.tell(configuration)
    return server


def wait_for_redis(server: Child, port: int) -> None:
    server.wait_until(lambda: answers(port), seconds=20)


def redis_url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"
