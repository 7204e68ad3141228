"""A worker's health check: it passes by the entry of a process that runs, and by no dead one's of the same name."""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from common.db import transaction
from common.jobs.tables import workers
from common.jobs.workers import record_worker
from tests.processes import environment
from worker.health import main
from worker.workshop import Workshop

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="elsewhere an entry's word is taken")


@pytest.fixture
def engine(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Of a database that the check looks into."""
    for name, value in environment(workshop.settings).items():
        monkeypatch.setenv(name, value)
    return workshop.engine


def enter(engine: Engine, process: int, state: str = "ready", *, before: timedelta = timedelta()) -> None:
    """As a worker of that process would have done, so long ago."""
    name = f"{socket.gethostname()}:{process}:cafe"
    record_worker(engine, name, state=state, models=["demo"], device="cpu", seats=2, figures={})  # type: ignore[arg-type]
    with transaction(engine) as connection:
        connection.execute(update(workers).values(started_at=workers.c.started_at - before))


def said() -> str:
    with pytest.raises(SystemExit) as ended:
        main()
    return str(ended.value)


def test_it_passes_by_a_worker_of_this_host_that_is_ready(engine: Engine) -> None:
    assert said() == "no worker of this host is alive"
    enter(engine, os.getpid(), "starting")
    assert said() == "the worker is starting"
    enter(engine, os.getpid())
    main()


@linux
def test_the_entry_of_a_process_that_has_ended_is_no_workers(engine: Engine) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    enter(engine, ended.pid)
    assert said() == "no worker of this host is alive"


@linux
def test_the_entry_of_the_one_before_is_not_its_own_though_host_and_process_id_are_the_same(engine: Engine) -> None:
    """A container that Docker started again: its worker loads for minutes, and the dead one's entry says ready."""
    enter(engine, os.getpid(), before=timedelta(days=1))
    assert said() == "no worker of this host is alive"
