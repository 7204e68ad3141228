"""A home folder in, a running Valkey or Redis on loopback out, with its data kept there."""

from pathlib import Path

from common.local import children
from common.local.binaries import find_redis
from common.local.children import Child
from common.local.ports import answers


def start_redis(home: Path, *, port: int, password: str) -> Child:
    """Start the server. Its password stands in a file that its owner alone may read: no process list shows it.

    Not through stdin: where we die before writing to it, an empty configuration means every interface, no password.
    """
    folder = home / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "requirepass": password,
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
    }
    configuration = home / "redis.conf"
    configuration.touch(mode=0o600)
    configuration.write_text("".join(f"{name} {value}\n" for name, value in options.items()), encoding="utf-8")
    return children.start(home, "redis", [find_redis(), configuration.resolve()], folder=folder)


def wait_for_redis(server: Child, port: int) -> None:
    server.wait_until(lambda: answers(port), seconds=20)


def redis_url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"
