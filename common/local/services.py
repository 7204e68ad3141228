"""A home folder in; real PostgreSQL, Valkey and SeaweedFS running on loopback, and their URLs and keys, out."""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from common.local import postgres, redis, s3
from common.local.children import Child, end_leftovers
from common.local.ports import free_ports
from common.local.supervisor import Program


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
    services, programs = plan_services(home, postgres_programs=postgres_programs, durable=durable)
    with ExitStack() as stack:
        started = []
        for program in programs:  # all are started before any is waited for
            child = program.start()
            stack.callback(program.stop, child)
            started.append((program, child))
        for program, child in started:
            child.wait_until(partial(program.ready, child), seconds=program.seconds)
        services.pids.update({child.name: child.process.pid for _, child in started})
        yield services


def plan_services(
    home: Path, *, postgres_programs: Path | None = None, durable: bool = True
) -> tuple[Services, tuple[Program, ...]]:
    """Where the three are going to answer, on ports that stay theirs; and how each is started, on its data.

    PostgreSQL comes last, as it may have to make its data folder.
    """
    keys = _credentials(home)
    redis_port, postgres_port, *s3_ports = free_ports(2 + s3.PORTS)
    services = Services(
        database_url=postgres.postgres_url(postgres_port, keys["postgres"]),
        broker_url=redis.redis_url(redis_port, keys["redis"]),
        s3_endpoint_url=f"http://127.0.0.1:{s3_ports[0]}",
        s3_access_key=keys["s3_access"],
        s3_secret_key=keys["s3_secret"],
        pids={},
    )
    made = cache(partial(postgres.make_database, home, keys["postgres"], postgres_programs))  # once; later it is there
    database = _database(
        home, lambda: postgres.run_postgres(home, made(), port=postgres_port, durable=durable), services
    )
    return services, (_broker(home, redis_port, keys), _store(home, s3_ports, keys), database)


def _broker(home: Path, port: int, keys: dict[str, str]) -> Program:
    return Program(
        "redis",
        partial(redis.start_redis, home, port=port, password=keys["redis"]),
        lambda _: redis.redis_answers(port, keys["redis"]),
        seconds=20,
        damage=redis.DAMAGE,
        advice=f"without it jobs start up to 15 s late; stop Kiln, remove {home / 'redis'}: it holds nothing of value",
    )


def _store(home: Path, ports: list[int], keys: dict[str, str]) -> Program:
    return Program(
        "s3",
        partial(s3.start_s3, home, ports=ports, access_key=keys["s3_access"], secret_key=keys["s3_secret"]),
        lambda _: s3.s3_answers(ports),
        stop=partial(s3.stop_s3, ports=ports),
        seconds=30,
        damage=s3.DAMAGE,
        advice=f"stop Kiln, keep a copy of {home / 's3'}, and restore the pictures (docs/operations.md); until then "
        "they wait in the workers",
    )


def _database(home: Path, start: Callable[[], Child], services: Services) -> Program:
    return Program(
        "postgres",
        start,
        lambda _: postgres.postgres_answers(services.database_url),
        stop=lambda server: server.stop(postgres.STOP_SIGNAL),
        seconds=60,  # recovery after a crash may take its time
        damage=postgres.DAMAGE,
        advice=f"stop Kiln, keep a copy of {postgres.data_place(home)}, and restore it (docs/operations.md); until "
        "then the API answers 503",
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
