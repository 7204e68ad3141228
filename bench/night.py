"""A batch of a hundred thousand jobs posted, watched and fetched: seconds, and the memory of API and worker meanwhile.

Of every five hundred jobs one is painted; the others are of a model that no worker has, and are canceled at the end.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil

from bench.result import Result, told
from common.local.stack import running_stack

JOBS, EVERY = 100_000, 500
SMALL: dict[str, object] = {"width": 64, "height": 64, "num_inference_steps": 1, "enhance": False}
NDJSON = {"Content-Type": "application/x-ndjson"}
SAMPLE_SECONDS = 0.05


@dataclass(slots=True)
class Memory:
    """The most resident memory that each process had, in MiB, by what went on."""

    processes: dict[str, psutil.Process]
    most: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        done, began = threading.Event(), time.monotonic()
        most = self.most[what] = dict.fromkeys(self.processes, 0.0)

        def sample() -> None:
            while not done.wait(SAMPLE_SECONDS):
                for name, process in self.processes.items():
                    most[name] = max(most[name], process.memory_info().rss / (1 << 20))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            self.seconds[what] = time.monotonic() - began
            done.set()
            thread.join()


def measure(home: Path, quick: bool) -> list[Result]:
    jobs = 2_000 if quick else JOBS
    with running_stack(home) as stack, httpx2.Client(base_url=stack.api_url, timeout=300) as http:
        processes = {child.name: psutil.Process(child.process.pid) for child in stack.children}
        memory = Memory({name: processes[name] for name in ("api", "worker", "sweeper")})
        with memory.during("before"):
            time.sleep(10 * SAMPLE_SECONDS)
        with memory.during("posting"):
            batch = http.post("/v1/batches", content=_lines(jobs), headers=NDJSON).raise_for_status().json()
        url = f"/v1/batches/{batch['id']}"
        with memory.during("watching"):
            while http.get(url).json()["counts"]["succeeded"] < jobs // EVERY:
                time.sleep(1)
        with memory.during("canceling"):
            http.post(f"{url}/cancel").raise_for_status()
        for part in ("results", "archive", "report"):
            with memory.during(part):
                _drain(http, f"{url}/{part}")
    return [
        told(f"a batch of {jobs:,} jobs: most memory of the {name}, {what}", [most[name]], " MiB")
        for what, most in memory.most.items()
        for name in memory.processes
    ] + [
        told(f"a batch of {jobs:,} jobs: {what}", [seconds], " s")
        for what, seconds in memory.seconds.items()
        if what != "before"
    ]


def _lines(jobs: int) -> str:
    return "\n".join(
        json.dumps({"prompt": f"a red apple, number {number}", "seed": number} | _how(number)) for number in range(jobs)
    )


def _how(number: int) -> dict[str, object]:
    return SMALL if number % EVERY == 0 else {"model": "sd-v1-4"}


def _drain(http: httpx2.Client, url: str) -> None:
    with http.stream("GET", url) as answer:
        answer.raise_for_status()
        for _ in answer.iter_bytes():
            pass
