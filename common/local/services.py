"""A home folder in; real PostgreSQL, Valkey and SeaweedFS running on loopback, and their URLs and keys, out."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.local import postgres, redis, s3
from common.local.children import end_leftovers
from common.local.ports import free_ports


@dataclass(frozen=True, slots=True)
class Services:
    """Where the three servers answer, with their credentials, and their process ids."""

    database_url: str
    broker_url: str
    s3_endpoint_url: str
    s3_access_key: str
    s3_secret_key: str
    pids: dict[str, int]

    def environment(self) -> dict[str, str]:
        """The KILN_* variables that point Kiln's processes here."""
        return {
            "KILN_DATABASE_URL": self.database_url,
            "KILN_BROKER_URL": self.broker_url,
            "KILN_S3_ENDPOINT_URL": self.s3_endpoint_url,
            "KILN_S3_ACCESS_KEY": self.s3_access_key,
            "KILN_S3_SECRET_KEY": self.s3_secret_key,
            "KILN_S3_PUBLIC_URL": "",  # not that of a .env for other servers
        }


@contextmanager
def running_services(home: Path, *, postgres_programs: Path | None = None, durable: bool = True) -> Iterator[Services]:
    """The three servers during the block, on the data of this home; what an earlier run left running is ended first.

    ``durable=False`` is for tests: PostgreSQL then does not wait for the disk. Raises LocalServiceError.
    """
    home.mkdir(parents=True, exist_ok=True)
    home = home.resolve()
    end_leftovers(home)
    try:
        with started_services(home, postgres_programs=postgres_programs, durable=durable) as services:
            yield services
    finally:
        end_leftovers(home)  # one that was interrupted as it was started


@contextmanager
def started_services(home: Path, *, postgres_programs: Path | None = None, durable: bool = True) -> Iterator[Services]:
    """As running_services, in a home that is there, where nothing is left over."""
    keys = _credentials(home)
    redis_port, postgres_port, *s3_ports = free_ports(2 + s3.PORTS)
    with ExitStack() as stack:
        # All are started before any is waited for; PostgreSQL, which may have to make its data folder, last
        broker = redis.start_redis(home, port=redis_port, password=keys["redis"])
        stack.callback(broker.stop)
        store = s3.start_s3(home, ports=s3_ports, access_key=keys["s3_access"], secret_key=keys["s3_secret"])
        stack.callback(s3.stop_s3, store, s3_ports)
        database = postgres.start_postgres(
            home, port=postgres_port, password=keys["postgres"], programs=postgres_programs, durable=durable
        )
        stack.callback(database.stop, postgres.STOP_SIGNAL)
        url = postgres.postgres_url(postgres_port, keys["postgres"])
        postgres.wait_for_postgres(database, url)
        redis.wait_for_redis(broker, redis_port)
        s3.wait_for_s3(store, s3_ports)
        yield Services(
            database_url=url,
            broker_url=redis.redis_url(redis_port, keys["redis"]),
            s3_endpoint_url=f"http://127.0.0.1:{s3_ports[0]}",
            s3_access_key=keys["s3_access"],
            s3_secret_key=keys["s3_secret"],
            pids={child.name: child.process.pid for child in (database, broker, store)},
        )


def _credentials(home: Path) -> dict[str, str]:
    """The home's own passwords: made once, readable by its owner alone."""
    path = home / "credentials.json"
    if not path.exists():
        made = {name: secrets.token_hex(16) for name in ("postgres", "redis", "s3_access", "s3_secret")}
        write_private(path, made)
    keys: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return keys


def write_private(path: Path, content: object) -> None:
    """JSON in a file of mode 0600, in place all at once."""
    staging = path.with_suffix(".new")
    staging.unlink(missing_ok=True)
    with open(os.open(staging, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
    staging.replace(path)
