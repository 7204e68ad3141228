"""``python -m worker.health``: exit code 0 where a worker of this host is ready, else 1 and one line saying why."""

import socket
import sys

from common.db import make_engine
from common.errors import Unavailable
from common.jobs.workers import list_workers
from common.settings import Settings, read_settings


def main() -> None:
    settings = read_settings(Settings)
    engine = make_engine(settings.database_url.get_secret_value(), name="kiln-health", pool_size=1)
    try:
        live = list_workers(engine, alive_seconds=settings.lease_seconds)
    except Unavailable as error:
        sys.exit(str(error))
    here = [worker for worker in live if worker.id.startswith(f"{socket.gethostname()}:")]
    if not any(worker.state == "ready" for worker in here):
        sys.exit(here[0].detail or f"the worker is {here[0].state}" if here else "no worker of this host is alive")


if __name__ == "__main__":
    main()
