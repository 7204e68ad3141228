"""How long a client waits for the API: POST to 202, and one poll, over one kept connection on loopback."""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
import psycopg

from bench.result import Result, at_least, at_most, percentile, spread, told
from common.local.stack import running_stack

BATCH = 10_000  # jobs, each on a line; of a model that no worker has
LINES = "\n".join(
    json.dumps({"prompt": f"a red apple, number {number}", "model": "sd-v1-4", "seed": number})
    for number in range(BATCH)
)
NDJSON = {"Content-Type": "application/x-ndjson"}
FAR = "2099-01-01T00:00:00Z"  # no worker touches these jobs: the API is measured, not the queue


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, calls = (2, 100) if quick else (5, 300)
    posts: list[list[float]] = []
    polls: list[list[float]] = []
    with running_stack(home) as stack, httpx2.Client(base_url=stack.api_url, timeout=30) as http:
        body = {"prompt": "an orange cat staring off with pretty eyes"}
        post = partial(http.post, "/v1/jobs", json=body | {"not_before": FAR})
        for _ in range(rounds):
            posts.append(_time(calls, post))
            job = post().json()["id"]
            polls.append(_time(calls, partial(http.get, f"/v1/jobs/{job}")))
        batches = _time(rounds, partial(http.post, "/v1/batches", content=LINES, headers=NDJSON), warm_up=0)
        behind = _time(calls, post)
        with psycopg.connect(stack.services.database_url, autocommit=True) as connection:
            connection.execute("ANALYZE jobs")  # as PostgreSQL does by itself, within a minute
        settled = _time(calls, post)
        rung = _time(calls // 3, lambda: http.post("/v1/jobs", json=body | {"num_inference_steps": 1}))
    return [
        _row("POST to 202, p50", [statistics.median(times) for times in posts], 10),
        _row("POST to 202, p99", [percentile(times, 99) for times in posts], 50),
        _row("poll of a waiting job, p50", [statistics.median(times) for times in polls], 5),
        Result(
            "POST to 202 with its message, the worker painting meanwhile, p50 / p99",
            f"{statistics.median(rung):.1f} / {percentile(rung, 99):.1f} ms",
            "",
            None,
        ),
        told(f"POST to 202 while {rounds * BATCH:,} jobs wait, p50", [statistics.median(settled)], " ms"),
        told("the same at once, with plans of a small table", [statistics.median(behind)], " ms"),
        at_most(f"POST of a batch of {BATCH:,} jobs to 202", [one / 1000 for one in batches], 2, " s"),
        at_least(
            f"jobs/s in a batch of {BATCH:,} ÷ one POST per job",
            [BATCH * statistics.median(times) / batch for times, batch in zip(posts, batches, strict=True)],
            30,
        ),
    ]


def _time(calls: int, call: Callable[[], httpx2.Response], *, warm_up: int = 10) -> list[float]:
    """Milliseconds of each call; the first ones, which warm up, are left out."""
    times = []
    for _ in range(calls + warm_up):
        began = time.perf_counter()
        answer = call()
        times.append(1000 * (time.perf_counter() - began))
        assert answer.status_code in (200, 202), answer.text  # noqa: S101 - a refused call measures nothing
    return times[warm_up:]


def _row(what: str, values: list[float], aim: float) -> Result:
    return Result(what, spread(values, " ms"), f"≤ {aim:g} ms", statistics.median(values) <= aim)
