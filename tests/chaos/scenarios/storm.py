"""C13: everything at once. A rig and a number of faults in; ten times as many jobs, hurt at random, over on return."""

import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx2
from redis import Redis

from common.errors import Unavailable
from tests.chaos.crew import Painter, ending
from tests.chaos.rig import Rig
from tests.chaos.servers import Servers

WORKERS, SEATS = 4, 2
JOBS_PER_FAULT = 10
BACKLOG = 25  # jobs that wait at most before the next are sent, so that all are sent into the storm
KINDS = {"kill": 35, "pause": 30, "cancel": 25, "flush": 5, "restart_broker": 3, "restart_database": 2}


class System(Protocol):
    """Who does the jobs."""

    def start(self) -> Painter:
        """One worker more."""

    def send(self, chance: random.Random) -> str:
        """One job more."""

    def cancel(self, job: str) -> None:
        """Its client wants it no more."""

    def waiting(self) -> int:
        """How many jobs nobody has begun, as far as one can know."""

    def finish(self) -> None:
        """Wait until all jobs are over, or nothing moves any more."""


def storm(rig: Rig, rounds: int) -> None:
    """C13: ``rounds`` faults of all kinds, by their weights; dead workers are replaced, and servers come back."""
    rage(rig, KilnSide(rig), KINDS, rounds)


def rage(rig: Rig, system: System, kinds: Mapping[str, int], rounds: int) -> None:
    """Strike; then all who were stopped go on, and work until nothing is left to do."""
    weather = _Weather(rig, system, random.Random(13))
    with ending(weather.crew):
        for _ in range(rounds):
            weather.send()
            weather.strike(kinds)
        weather.clear_up()
        system.finish()


@dataclass(frozen=True, slots=True)
class KilnSide:
    """Kiln, by light workers."""

    rig: Rig

    def start(self) -> Painter:
        return self.rig.start(seats=SEATS)

    def send(self, chance: random.Random) -> str:
        return self.rig.post_patiently(num_inference_steps=chance.randint(1, 10))

    def cancel(self, job: str) -> None:
        self.rig.note({"canceled": job})  # before it is asked: an answer may be lost on its way
        with httpx2.Client(base_url=self.rig.kiln.url, timeout=30) as client:
            client.post(f"/v1/jobs/{job}/cancel")

    def waiting(self) -> int:
        try:
            return self.rig.count("queued")
        except Unavailable:
            return 0

    def finish(self) -> None:
        self.rig.emptied(seconds=300)


class _Weather:
    """What is out there: workers, some of them stopped for a while, and the jobs that were sent lately."""

    def __init__(self, rig: Rig, system: System, chance: random.Random) -> None:
        self._rig = rig
        self._system = system
        self._chance = chance
        self._servers = Servers(rig)
        self._recent: list[str] = []
        self._paused: dict[int, tuple[Painter, float]] = {}  # until when, by time.monotonic()
        self.crew = [system.start() for _ in range(WORKERS)]

    def send(self) -> None:
        """The next jobs, once there are few that wait, or for half a minute nobody could do any."""
        self._mend_while(lambda: self._system.waiting() > BACKLOG, seconds=30)
        self._recent = [self._system.send(self._chance) for _ in range(JOBS_PER_FAULT)]

    def strike(self, kinds: Mapping[str, int]) -> None:
        strikes: dict[str, Callable[[], None]] = {
            "kill": lambda: self._chance.choice(self.crew).hurt(signal.SIGKILL),
            "pause": self._pause,
            "cancel": lambda: self._system.cancel(self._chance.choice(self._recent)),
            "flush": self._flush,
            "restart_broker": self._servers.restart_broker,
            "restart_database": self._servers.restart_database,
        }
        strikes[self._chance.choices([*kinds], [*kinds.values()])[0]]()
        self._mend()

    def clear_up(self) -> None:
        """Wake everybody, and have a full crew."""
        self._mend_while(lambda: self._paused, seconds=60)
        self._mend()

    def _mend_while(self, needed: Callable[[], object], *, seconds: float) -> None:
        until = time.monotonic() + seconds
        while needed() and time.monotonic() < until:
            self._mend()
            time.sleep(0.1)

    def _mend(self) -> None:
        """Wake those whose time has come, and replace the dead."""
        for pid, (painter, until) in list(self._paused.items()):
            if time.monotonic() >= until:
                painter.hurt(signal.SIGCONT)
                del self._paused[pid]
        for place, painter in enumerate(self.crew):
            if painter.exit_code is not None:
                self.crew[place] = self._system.start()

    def _pause(self) -> None:
        """Stop a worker for 1.2 to 3 leases."""
        painter = self._chance.choice(self.crew)
        painter.hurt(signal.SIGSTOP)
        seconds = self._rig.kiln.settings.lease_seconds * self._chance.uniform(1.2, 3)
        self._paused[painter.pid] = (painter, time.monotonic() + seconds)

    def _flush(self) -> None:
        """Empty the broker, messages and bindings alike."""
        with Redis.from_url(self._rig.services.broker_url, socket_timeout=5) as redis:
            redis.flushall()
