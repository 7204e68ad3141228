"""C13: everything at once. A rig and a number of faults in; ten times as many jobs, hurt at random, over on return."""

import random
import signal
import time
from collections.abc import Callable

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


def storm(rig: Rig, rounds: int) -> None:
    """``rounds`` faults of all kinds, by their weights, among workers that are replaced and servers that come back."""
    weather = _Weather(rig, random.Random(13))
    with ending(weather.crew):
        for _ in range(rounds):
            weather.send()
            weather.strike()
            weather.mend()
        while weather.paused:
            weather.mend()
            time.sleep(0.1)
        rig.emptied(seconds=300)


class _Weather:
    """What is out there: workers, some of them stopped for a while, and the jobs that were sent lately."""

    def __init__(self, rig: Rig, chance: random.Random) -> None:
        self._rig = rig
        self._chance = chance
        self._servers = Servers(rig)
        self._recent: list[str] = []
        self.crew = [rig.start(seats=SEATS) for _ in range(WORKERS)]
        self.paused: dict[int, tuple[Painter, float]] = {}  # until when, by time.monotonic()

    def send(self) -> None:
        """The next jobs, once there are few that wait."""
        until = time.monotonic() + 30
        while self._waiting() > BACKLOG and time.monotonic() < until:
            self.mend()
            time.sleep(0.05)
        self._recent = [
            self._rig.post_patiently(num_inference_steps=self._chance.randint(1, 10)) for _ in range(JOBS_PER_FAULT)
        ]

    def strike(self) -> None:
        strikes: dict[str, Callable[[], None]] = {
            "kill": lambda: self._chance.choice(self.crew).hurt(signal.SIGKILL),
            "pause": self._pause,
            "cancel": self._cancel,
            "flush": lambda: flush(self._rig),
            "restart_broker": self._servers.restart_broker,
            "restart_database": self._servers.restart_database,
        }
        strikes[self._chance.choices([*KINDS], [*KINDS.values()])[0]]()

    def mend(self) -> None:
        """Wake those whose time has come, and replace the dead."""
        for pid, (painter, until) in list(self.paused.items()):
            if time.monotonic() >= until:
                painter.hurt(signal.SIGCONT)
                del self.paused[pid]
        for place, painter in enumerate(self.crew):
            if painter.exit_code is not None:
                self.crew[place] = self._rig.start(seats=SEATS)

    def _pause(self) -> None:
        """Stop a worker for 1.2 to 3 leases."""
        painter = self._chance.choice(self.crew)
        painter.hurt(signal.SIGSTOP)
        seconds = self._rig.kiln.settings.lease_seconds * self._chance.uniform(1.2, 3)
        self.paused[painter.pid] = (painter, time.monotonic() + seconds)

    def _cancel(self) -> None:
        job = self._chance.choice(self._recent)
        self._rig.note({"canceled": job})  # before it is asked: an answer may be lost on its way
        with httpx2.Client(base_url=self._rig.kiln.url, timeout=30) as client:
            client.post(f"/v1/jobs/{job}/cancel")

    def _waiting(self) -> int:
        try:
            return self._rig.count("queued")
        except Unavailable:
            return 0


def flush(rig: Rig) -> None:
    """Empty the broker, messages and bindings alike."""
    with Redis.from_url(rig.services.broker_url, socket_timeout=5) as redis:
        redis.flushall()
