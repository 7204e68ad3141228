"""Jobs in, the seconds that each system takes for all of them out: Kiln, the plain loop, and a Celery task per job."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import psycopg
from celery import Celery

from client.api import Kiln
from common.jobs.spec import JobSpec
from common.local.services import Services

SECONDS = 900  # for one job at most, its wait for the others included


def through_kiln(kiln: Kiln, specs: Sequence[JobSpec]) -> float:
    """From the first POST until the last picture is in the bucket."""
    began = time.perf_counter()
    ids = [kiln.submit(**asked(spec))["id"] for spec in specs]
    for job_id in reversed(ids):
        job = kiln.wait(job_id)
        assert job["status"] == "succeeded", job  # noqa: S101 - a failed job measures nothing
    return time.perf_counter() - began


def asked(spec: JobSpec) -> dict[str, Any]:
    """The fields of a POST that becomes this spec, and is painted each time."""
    return {name: value for name, value in spec.to_json().items() if value is not None} | {"reuse": False}


class Loop:
    """The plain loop in a process of its own, which paints when told to."""

    def __init__(self, home: Path, model: str) -> None:
        self._command = [sys.executable, "-m", "bench.plain", str(home), model]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self._answer()
        except BaseException:  # also our own end: the loop must not stay behind
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def paint(self, specs: Sequence[JobSpec]) -> float:
        assert self._process.stdin is not None  # noqa: S101 - Popen made it
        self._process.stdin.write(json.dumps([spec.to_json() for spec in specs]) + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - Popen made it
        return self._process.stdout.readline()


class Naive:
    """The tutorial's Celery worker, on the broker, database and bucket that Kiln uses too."""

    def __init__(self, home: Path, model: str, services: Services) -> None:
        broker = services.broker_url.removesuffix("/0") + "/1"
        self._app = Celery("bench", broker=broker, backend=broker)
        self._database, self._log = services.database_url, home / "naive.log"
        self._variables = services.environment() | {
            "KILN_HOME": str(home),
            "NAIVE_BROKER": broker,
            "NAIVE_MODEL": model,
        }

    def __enter__(self) -> Self:
        with psycopg.connect(self._database, autocommit=True) as connection:
            connection.execute("CREATE TABLE naive (key text PRIMARY KEY, prompt text)")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "bench.naive", "worker", "--concurrency=1"],
                env=os.environ | self._variables,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def paint(self, specs: Sequence[JobSpec]) -> float:
        began = time.perf_counter()
        sent = [self._app.send_task("paint", (spec.to_json(),)) for spec in specs]
        for result in sent:
            result.get(timeout=SECONDS)
        return time.perf_counter() - began
