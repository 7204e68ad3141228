"""The servers below a rig: ended by their ids at once, and started again on their own ports and data."""

import os
import signal
from contextlib import suppress
from urllib.parse import urlsplit

from common.local import postgres, redis
from tests.chaos.rig import Rig


class Servers:
    """What runs now: first what the rig started, later what was started here instead, which the rig ends too."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._pids = dict(rig.services.pids)

    def restart_broker(self, signum: int = signal.SIGKILL) -> None:
        url = urlsplit(self._rig.services.broker_url)
        port, password = url.port or 0, url.password or ""
        self.end("redis", signum)
        server = redis.start_redis(self._rig.home, port=port, password=password)
        self._pids["redis"] = server.process.pid
        redis.wait_for_redis(server, port)

    def restart_database(self, signum: int = signal.SIGQUIT) -> None:
        """SIGQUIT is PostgreSQL's immediate shutdown: every session cut, no checkpoint, recovery at the next start."""
        url = urlsplit(self._rig.services.database_url)
        self.end("postgres", signum)
        server = postgres.start_postgres(self._rig.home, port=url.port or 0, password=url.password or "", durable=False)
        self._pids["postgres"] = server.process.pid
        postgres.wait_for_postgres(server, self._rig.services.database_url)

    def end(self, name: str, signum: int) -> None:
        """Signal one of redis, postgres and s3, and wait for its end."""
        os.kill(self._pids[name], signum)
        with suppress(ChildProcessError):  # whoever started it has waited already
            os.waitpid(self._pids[name], 0)  # a zombie would look alive to the next PostgreSQL
