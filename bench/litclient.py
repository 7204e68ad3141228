"""Jobs in, the moments at which a LitServe server, in a process of its own, had done them out."""

import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
import psutil

from bench.fake import Job
from common.local.ports import free_ports

PATIENCE = 120  # seconds, of a client and of the server


class LitServe:
    """The server in a process of its own, and clients that wait for its answers."""

    def __init__(self, home: Path) -> None:
        self._port, self._log = free_ports(1)[0], home / "litserve.log"
        self._clients = ThreadPoolExecutor(256)
        self._http = httpx2.Client(
            base_url=f"http://127.0.0.1:{self._port}",
            timeout=PATIENCE,
            trust_env=False,
            limits=httpx2.Limits(max_connections=256),
        )

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "bench.litserver", str(self._port)], stdout=log, stderr=log, cwd=os.getcwd()
            )
        try:
            self._wait_until_ready()
        except BaseException:  # also our own end: the server must not stay behind
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.shutdown(cancel_futures=True)
        self._http.close()
        started = psutil.Process(self._server.pid).children(recursive=True) if self._server.poll() is None else []
        self._server.terminate()
        for process in started:  # which the server leaves running
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        self._server.wait()

    def submit(self, job: Job) -> "Future[float]":
        return self._clients.submit(self._ask, job)

    def _ask(self, job: Job) -> float:
        self._http.post("/predict", json=asdict(job)).raise_for_status()
        return time.perf_counter()

    def _wait_until_ready(self) -> None:
        for _ in range(10 * PATIENCE):
            if self._server.poll() is not None:
                raise RuntimeError(f"LitServe ended: {self._log.read_text()[-2000:]}")
            try:
                if self._http.get("/health").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"LitServe was not ready: {self._log.read_text()[-2000:]}")
