"""The servers below a rig: ended by their ids at once, and started again on their own ports and data."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from common.local import children, postgres, redis
from tests.chaos.rig import Rig


class Servers:
    """What runs now: first what the rig started, later what was started here instead, which the rig ends too."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._pids = dict(rig.services.pids)

    def restart_broker(self, signum: int = signal.SIGKILL) -> None:
        self.end("redis", signum)
        self.start_broker()

    def start_broker(self) -> None:
        url = urlsplit(self._rig.services.broker_url)
        port, password = url.port or 0, url.password or ""
        server = redis.start_redis(self._rig.home, port=port, password=password)
        self._pids["redis"] = server.process.pid
        redis.wait_for_redis(server, port, password)

    def restart_database(self, signum: int = signal.SIGQUIT) -> None:
        """SIGQUIT is PostgreSQL's immediate shutdown: every session cut, no checkpoint, recovery at the next start."""
        self.end("postgres", signum)
        self.start_database()

    def start_database(self) -> None:
        url = urlsplit(self._rig.services.database_url)
        server = postgres.start_postgres(self._rig.home, port=url.port or 0, password=url.password or "", durable=False)
        self._pids["postgres"] = server.process.pid
        postgres.wait_for_postgres(server, self._rig.services.database_url)

    def restart_store(self) -> None:
        """SeaweedFS on its ports and data, with the very command that it runs with. Every write is in its files."""
        command = Path(f"/proc/{self._pids['s3']}/cmdline").read_text().split("\0")[:-1]
        self.end("s3", signal.SIGKILL)
        self._pids["s3"] = children.start(self._rig.home, "s3", command, folder=self._rig.home / "s3").process.pid

    def revive(self, name: str) -> None:
        """What an operator does once a full disk has room: start what has ended over it, or cannot go on by itself.

        The log of SeaweedFS's index keeps its first error for good: whatever is to go there is refused until the next
        start.
        """
        if name == "s3":
            return self.restart_store()
        with suppress(ChildProcessError):
            if os.waitpid(self._pids[name], os.WNOHANG) != (0, 0):
                {"redis": self.start_broker, "postgres": self.start_database}[name]()

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """One of redis, postgres and s3 stands still during the block: it takes connections and answers nothing."""
        os.kill(self._pids[name], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pids[name], signal.SIGCONT)

    def end(self, name: str, signum: int) -> None:
        """Signal one of redis, postgres and s3, and wait for its end."""
        os.kill(self._pids[name], signum)
        with suppress(ChildProcessError):  # whoever started it has waited already
            os.waitpid(self._pids[name], 0)  # a zombie would look alive to the next PostgreSQL
