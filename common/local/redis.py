"""A home folder in, a running Valkey or Redis on loopback out, with its data kept there."""

import re
import socket
from pathlib import Path

from common.local import children
from common.local.binaries import find_redis
from common.local.children import Child

# What it says of data that it cannot read. An end that a kill cut off is none: it drops that by itself
DAMAGE = re.compile(
    r"Bad file format reading the append only file|AOF MANIFEST FILE ERROR|Unable to obtain the AOF file"
    r"|Unrecoverable error reading the append only file|Check RDB returned error|Short read or OOM loading DB"
    r"|Wrong signature trying to load DB|The AOF file .* doesn't exist"
)


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


def wait_for_redis(server: Child, port: int, password: str) -> None:
    server.wait_until(lambda: redis_answers(port, password), seconds=20)


def redis_answers(port: int, password: str) -> bool:
    """Does it take commands? It takes connections before it has read its data, which it may not survive."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as answers:
                return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
    except OSError:
        return False


def redis_url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"
