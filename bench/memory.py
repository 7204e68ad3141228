"""Is the worker's memory flat? Resident size over a run of jobs, the last quarter against the second."""

import statistics
from pathlib import Path

import psutil

from bench.result import Result
from client.api import Kiln
from common.local.stack import running_stack

JOBS = 200
AT_ONCE = 10


def measure(home: Path, quick: bool) -> list[Result]:
    jobs = 80 if quick else JOBS
    sizes: list[float] = []
    with running_stack(home) as stack, Kiln(stack.api_url) as kiln:
        worker = psutil.Process(next(child.process.pid for child in stack.children if child.name == "worker"))
        for _ in range(jobs // AT_ONCE):
            ids = [kiln.submit("a red apple", num_inference_steps=5)["id"] for _ in range(AT_ONCE)]
            for job_id in ids:
                kiln.wait(job_id)
            sizes.append(worker.memory_info().rss / 2**20)
    quarter = len(sizes) // 4
    second, last = statistics.mean(sizes[quarter : 2 * quarter]), statistics.mean(sizes[-quarter:])
    growth = 100 * (last / second - 1)
    return [
        Result(
            f"the worker's memory over {jobs} jobs, last quarter against second",
            f"{growth:+.1f} % ({second:.0f} → {last:.0f} MiB)",
            "within 5 %",
            abs(growth) <= 5,
        )
    ]
