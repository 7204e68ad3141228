"""The rig: a running Kiln in; workers with a fail point, a client that logs its 202s, and the checker's report, out."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
from alembic import command
from sqlalchemy import Engine, text

from common.db import make_engine, reading
from common.errors import Unavailable
from common.local.services import Services, running_services
from common.objects import Objects
from common.settings import Settings
from migrations.__main__ import config
from tests.chaos.check import Report, check
from tests.chaos.crew import Break, Painter, ending, start_painter
from tests.chaos.disks import small
from tests.deployment import TERMINAL, Kiln, running_kiln
from tests.processes import environment, running, slowness, wait_for
from tests.proxy import Proxy, proxied

SMALL = {"prompt": "a red apple", "width": 64, "height": 64, "num_inference_steps": 1, "enhance": False}
LEASE_SECONDS = 3  # on a quiet machine: short enough to watch it run out, long enough to be kept


@dataclass(frozen=True, slots=True)
class Rig:
    """A deployment under test, its client's log, and the servers below it, whose home is ``home``.

    ``proxies`` stand between Kiln and the servers whose URLs they are called after; ``services`` are those servers.
    """

    kiln: Kiln
    log: Path
    services: Services
    home: Path
    client: httpx2.Client
    engine: Engine
    proxies: Mapping[str, Proxy]

    def post(self, *, key: str = "", **body: Any) -> str:
        """Submit one small job, logged before it is sent and when it is accepted. Gives its id."""
        key = key or uuid4().hex
        self.note({"asked": key})
        return self._send(key, SMALL | body)

    def post_patiently(self, *, key: str = "", seconds: float = 60, **body: Any) -> str:
        """The same, sent again with its key as long as nobody takes it, as a client would whose server is away."""
        key, until = key or uuid4().hex, time.monotonic() + seconds * slowness()
        self.note({"asked": key})
        while True:
            try:
                return self._send(key, SMALL | body)
            except (AssertionError, httpx2.HTTPError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def _send(self, key: str, body: dict[str, Any]) -> str:
        answer = self.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["id"]
        self.note({"accepted": job_id, "key": key})
        return job_id

    def note(self, line: dict[str, str]) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def worker(self, name: str, fault: str = "", module: str = "worker", **variables: str) -> Iterator[Popen[bytes]]:
        """A ready worker of one seat, which strikes itself where ``fault``, as point:action, says."""
        given = environment(self.kiln.settings) | {"KILN_FAULT": fault, "KILN_SEATS": "1", "OMP_NUM_THREADS": "1"}
        with running([module], given | variables, self.kiln.logs / f"{name}.log") as process:

            def ready() -> bool:
                assert process.poll() is None, self.kiln.tails()
                return process.pid in self.kiln.ready_workers()

            wait_for("ready worker", ready, seconds=120)
            yield process

    def start(self, fault: str = "", broken: Break | None = None, seats: int = 1, **chaos: object) -> Painter:
        """A light worker, of which nobody knows yet whether it is ready; ``chaos`` becomes CHAOS_* of the painter's."""
        variables = environment(self.kiln.settings) | {"KILN_FAULT": fault, "KILN_SEATS": str(seats)}
        variables |= {f"CHAOS_{name.upper()}": str(value) for name, value in chaos.items()}
        return start_painter(variables, self.kiln.logs, broken)

    @contextmanager
    def painters(
        self, faults: Sequence[str], broken: Break | None = None, seats: int = 1, **chaos: object
    ) -> Iterator[list[Painter]]:
        """A ready light worker for each of ``faults``, which strike themselves as those say ('' not at all)."""
        painters = [self.start(fault, broken, seats, **chaos) for fault in faults]

        def ready() -> bool:
            assert all(painter.exit_code is None for painter in painters), self.kiln.tails()
            return {painter.pid for painter in painters} <= self.kiln.ready_workers()

        with ending(painters):
            wait_for("ready painters", ready, seconds=60)
            yield painters

    def states(self) -> Counter[str]:
        """How many jobs are in each state. Raises Unavailable."""
        with reading(self.engine) as connection:
            found = connection.execute(text("SELECT status, count(*) FROM jobs GROUP BY status"))
            return Counter(dict(found.tuples().all()))

    def count(self, status: str) -> int:
        """How many jobs are in this state. Raises Unavailable."""
        return self.states()[status]

    def refused(self) -> int:
        """How often a worker that had lost its lease wrote, and was refused."""
        return sum(log.read_text().count("lease lost") for log in self.kiln.logs.glob("*.log"))

    def emptied(self, *, seconds: float = 120) -> None:
        """Wait until every job there is is over, also where the database is away in between."""

        def over() -> bool:
            try:
                states = self.states()
                return not states["queued"] + states["running"]
            except Unavailable:
                return False

        wait_for("end of all jobs", over, seconds=seconds)

    def settled(self, jobs: list[str], *, seconds: float = 120) -> None:
        """Wait until every job is over; a checker that is asked earlier would call them lost."""
        wait_for("end", lambda: all(self.kiln.job(job)["status"] in TERMINAL for job in jobs), seconds=seconds)

    def report(self) -> Report:
        """What the checker says."""
        return check(self.engine, Objects.from_settings(self.kiln.settings), self.log.read_text().splitlines())


@contextmanager
def running_rig(
    home: Path, through: Sequence[str] = (), disks: Mapping[str, int] = MappingProxyType({}), **changes: object
) -> Iterator[Rig]:
    """A Kiln without workers on servers of its own in ``home``, with leases short enough to watch run out.

    ``changes`` are to its settings; ``through`` names URLs of Services that it reaches through a proxy; ``disks`` says
    how many MiB each of redis, postgres and s3 has. Raises NotRun.
    """
    with (
        small(home / "services", disks),
        running_services(home / "services", durable=False) as services,
        _behind(services, through) as (seen, proxies),
    ):
        given = {name[5:].lower(): value for name, value in seen.environment().items()}
        settings = Settings.model_validate(given | _hasty() | changes)
        command.upgrade(config(services.database_url), "head")
        engine = make_engine(services.database_url, name="kiln-chaos", pool_size=1)
        with running_kiln(settings, home) as kiln, httpx2.Client(base_url=kiln.url, timeout=60) as client:
            yield Rig(kiln, home / "client.jsonl", services, home / "services", client, engine, proxies)
        engine.dispose()
    if (noted := home / "services" / "postgres.place").exists():  # as root the database lay elsewhere
        shutil.rmtree(noted.read_text())


def _hasty() -> dict[str, float]:
    lease = LEASE_SECONDS * min(slowness(), 4)
    return {
        "lease_seconds": lease,
        "heartbeat_seconds": lease / 6,
        "sweep_seconds": lease / 10,
        "requests_per_minute": 1_000_000,
    }


@contextmanager
def _behind(services: Services, names: Sequence[str]) -> Iterator[tuple[Services, dict[str, Proxy]]]:
    """The same servers as seen through proxies before those that are named, by their URL's field; and the proxies."""
    proxies: dict[str, Proxy] = {}
    with ExitStack() as stack:
        for name in names:
            url = urlsplit(getattr(services, name))
            proxies[name] = stack.enter_context(proxied("127.0.0.1", url.port or 0))
            place = f"{url.netloc.rpartition(':')[0]}:{proxies[name].port}"
            services = replace(services, **{name: url._replace(netloc=place).geturl()})
        yield services, proxies
