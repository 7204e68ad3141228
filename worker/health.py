"""``python -m worker.health``: exit code 0 where a worker of this host is ready, else 1 and one line saying why."""

import os
import socket
import sys
from datetime import timedelta
from pathlib import Path

from common.db import make_engine
from common.errors import Unavailable
from common.jobs.workers import Worker, list_workers
from common.settings import Settings, read_settings


def main() -> None:
    settings = read_settings(Settings)
    engine = make_engine(settings.database_url.get_secret_value(), name="kiln-health", pool_size=1)
    try:
        live = list_workers(engine, alive_seconds=settings.lease_seconds)
    except Unavailable as error:
        sys.exit(str(error))
    here = [worker for worker in live if worker.id.startswith(f"{socket.gethostname()}:") and _runs(worker)]
    if not any(worker.state == "ready" for worker in here):
        sys.exit(here[0].detail or f"the worker is {here[0].state}" if here else "no worker of this host is alive")


def _runs(worker: Worker) -> bool:
    """Whether the process that entered itself is there still.

    In a container that was started again, host and process id are those of the worker that died; but its entry is
    older than the process. Two ages are compared, no clock with another.
    """
    process = Path(f"/proc/{worker.id.split(':')[1]}/stat")
    if not process.parent.parent.is_dir():
        return True  # no Linux: the entry's word is taken
    try:
        ticks = int(process.read_text().rpartition(")")[2].split()[19])  # of its start, since the machine's: proc(5)
    except OSError:
        return False
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return worker.age <= timedelta(seconds=since_boot - ticks / os.sysconf("SC_CLK_TCK"))


if __name__ == "__main__":
    main()
