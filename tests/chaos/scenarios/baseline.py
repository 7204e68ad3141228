"""The baseline: C13's faults against a Celery task per job. A rig and a number of faults in; its own report out."""

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, replace
from uuid import uuid4

import psycopg
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from common.errors import NotFound
from common.objects import Objects
from tests.chaos import plain
from tests.chaos.check import Report
from tests.chaos.crew import Painter, fork
from tests.chaos.rig import Rig
from tests.chaos.scenarios import storm
from tests.jobs.make import SPEC
from tests.processes import environment, slowness

KINDS = {kind: weight for kind, weight in storm.KINDS.items() if kind != "cancel"}
QUIET_SECONDS = 15  # without a new picture, and with nothing in the queue: five times what a task is kept for


def baseline(rig: Rig, rounds: int) -> None:
    """The faults of C13, but the cancels, which such a task does not know, against bench/naive.py."""
    with psycopg.connect(rig.services.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE naive (key text PRIMARY KEY, prompt text)")
    storm.rage(rig, make_side(rig), KINDS, rounds)


def report(rig: Rig) -> Report:
    """What the checker would say, had it tables to read: a job's prompt is its name, and a picture is a row."""
    told = [json.loads(line) for line in rig.log.read_text().splitlines()]
    accepted = [line["accepted"] for line in told if "accepted" in line]
    rows = read_rows(rig)
    pictures = Counter(prompt for _, prompt in rows)
    objects = Objects.from_settings(rig.kiln.settings)
    lost = [f"{job} was accepted and has no picture" for job in accepted if job not in pictures]
    doubled = [f"{job} has {count} pictures" for job, count in pictures.items() if count > 1]
    odd = [f"{key} is not there" for key, _ in rows if not _is_there(objects, key)]
    return Report(
        attempted=sum("asked" in line for line in told),
        acknowledged=len(accepted),
        succeeded=len(pictures),
        lost=len(lost),
        duplicated=len(doubled),
        unexpected=len(odd),
        recovered=None,
        recovery_p50=None,
        recovery_p99=None,
        attempts_per_success=None,
        violations=(*lost, *doubled, *odd),
    )


def read_rows(rig: Rig) -> list[tuple[str, str]]:
    with psycopg.connect(rig.services.database_url) as connection:
        return connection.execute("SELECT key, prompt FROM naive").fetchall()


def _is_there(objects: Objects, key: str) -> bool:
    try:
        return bool(b"".join(objects.open(key)))
    except NotFound:
        return False


def make_side(rig: Rig) -> "PlainSide":
    """On a database of the broker's where nothing of Kiln's is; a task is kept for as long as Kiln's lease."""
    url, visible = rig.services.broker_url.removesuffix("/0") + "/1", rig.kiln.settings.lease_seconds
    app = Celery("client", broker=url)
    plain.tell(app, visible)
    variables = environment(rig.kiln.settings) | {
        "NAIVE_BROKER": url,
        "NAIVE_MODEL": "",
        "CHAOS_VISIBLE": str(visible),
    }
    return PlainSide(rig, app, url, variables)


@dataclass(frozen=True, slots=True)
class PlainSide:
    """A Celery task per job."""

    rig: Rig
    app: Celery
    url: str
    variables: dict[str, str]

    def start(self) -> Painter:
        log = self.rig.kiln.logs / f"plain-{uuid4().hex[:8]}.log"
        return Painter(fork(plain.serve, self.variables, log), log, group=True)

    def send(self, chance: random.Random) -> str:
        """Sent again while the broker does not take it."""
        name, until = uuid4().hex, time.monotonic() + 60 * slowness()
        self.rig.note({"asked": name})
        while True:
            try:
                self.app.send_task("paint", (replace(SPEC, prompt=name).to_json(),))
            except (OperationalError, OSError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
            else:
                self.rig.note({"accepted": name})
                return name

    def cancel(self, job: str) -> None:
        raise NotImplementedError

    def waiting(self) -> int:
        try:
            with Redis.from_url(self.url, socket_timeout=5) as redis:
                return int(redis.llen("celery"))
        except RedisError:
            return 0

    def finish(self) -> None:
        """Until no picture came for a while, and nothing waits."""
        count, quiet_since = -1, time.monotonic()
        while time.monotonic() - quiet_since < QUIET_SECONDS * slowness():
            if (now := len(read_rows(self.rig))) != count or self.waiting():
                count, quiet_since = now, time.monotonic()
            time.sleep(0.5)
