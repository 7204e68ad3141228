"""What a request costs is what was sent: no few bytes take seconds of the processor, and no body takes the memory."""

import json
import statistics
import threading
import time

import httpx2
import pytest

from tests.api.conftest import Api

MIB = 1 << 20
JSON, NDJSON, CSV = ({"Content-Type": kind} for kind in ("application/json", "application/x-ndjson", "text/csv"))


def spent(api: Api) -> tuple[float, float]:
    """Seconds of the processor that the server has taken, and its memory in MiB."""
    told = dict(line.rsplit(" ", 1) for line in api.get("/metrics").text.splitlines() if line.startswith("process_"))
    return float(told["process_cpu_seconds_total"]), float(told["process_resident_memory_bytes"]) / MIB


@pytest.mark.parametrize(
    ("matrix", "jobs"),
    [
        ({"prompts": ["a"], "seeds_per_prompt": 100_000}, 100_000),
        ({"prompts": ["a"], "styles": ["gogh"] * 100, "steps": list(range(1, 101)), "guidance": [1.0] * 10}, 100_000),
    ],
    ids=["seeds", "lists"],
)
def test_a_small_dry_run_of_a_large_batch_costs_little(api: Api, matrix: dict[str, object], jobs: int) -> None:
    """Six of them, and nothing answers for a minute."""
    asked = {"matrix": matrix, "dry_run": True}
    api.post("/v1/batches", json=asked)
    before, _ = spent(api)
    told = [api.post("/v1/batches", json=asked) for _ in range(10)]
    assert {answer.json()["jobs"] for answer in told} == {jobs}
    assert spent(api)[0] - before < 10 * 0.1


@pytest.mark.parametrize(
    ("path", "headers", "parts", "status"),
    [
        ("/v1/jobs", JSON, ("{", '"a":0,', 90_000, '"b":0}'), 413),
        ("/v1/jobs", JSON, ('{"metadata":{', '"{}":1,', 9_000, '"":1}}'), 422),
        ("/v1/jobs", JSON, ('{"prompt":', "[", 500_000, ""), 413),
        ("/v1/batches", JSON, ('{"matrix":{"prompts":[', "1,", 900_000, "1]}}"), 422),
        ("/v1/batches", JSON, ('{"matrix":{"prompts":[', "1,", 30_000_000, "1]}}"), 413),
        ("/v1/batches", JSON, ("{", '"{}":0,', 900_000, '"":0}'), 413),
        ("/v1/batches", JSON, ("{", '"{}":0,', 9_000, '"":0}'), 422),
        ("/v1/batches", JSON, ('{"matrix":{"prompts":["', "e\u0301", 20 * MIB, '"]}}'), 422),
        ("/v1/batches", JSON, ('{"input_file_id":', "[", 4 * MIB, ""), 413),
        ("/v1/batches", NDJSON, ("", "\n", 40 * MIB, ""), 422),
        ("/v1/batches", NDJSON, ('{"prompt":"', "a", 40 * MIB, '"}'), 422),
        ("/v1/batches", NDJSON, ("{", '"{}":0,', 80_000, '"":0}'), 422),
        ("/v1/batches", CSV, ("", ",", 40 * MIB, ""), 422),
        ("/v1/batches", CSV, ("prompt\n", "\n", 40 * MIB, ""), 422),
        ("/v1/batches", CSV, ("prompt\n", '"\n",', 10 * MIB, ""), 422),
        ("/v1/batches", CSV, ('prompt\n"', "a\n", 20 * MIB, ""), 422),
    ],
    ids=[
        "unknown fields", "metadata", "depth", "numbers", "too many numbers", "too many fields of a matrix",
        "fields of a matrix", "one prompt", "depth of an order", "empty lines", "one line", "one line of fields",
        "columns", "empty rows", "cells", "one cell",
    ],
)  # fmt: skip
def test_odd_bodies_are_refused_before_they_cost_much(
    api: Api, path: str, headers: dict[str, str], parts: tuple[str, str, int, str], status: int
) -> None:
    """A few MiB that become gigabytes once they are read."""
    start, middle, times, end = parts
    many = "".join(map(middle.format, range(times))) if "{}" in middle else middle * times
    before, _ = spent(api)
    answer = api.post(path, content=(start + many + end).encode(), headers=headers)
    after, memory = spent(api)
    assert answer.status_code == status, answer.text[:500]
    assert len(answer.content) < 20_000
    assert after - before < 3
    assert memory < 600


def test_polls_are_answered_while_a_large_batch_is_queued(api: Api) -> None:
    took: list[float] = []
    done = threading.Event()

    def poll() -> None:
        with httpx2.Client(base_url=api.base_url, timeout=60) as client:
            while not done.is_set():
                started = time.monotonic()
                assert client.get("/v1/jobs").status_code == client.get("/healthz").status_code == 200
                took.append(time.monotonic() - started)
                time.sleep(0.02)

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        lines = "\n".join(json.dumps({"prompt": f"cat {number}"}) for number in range(20_000)).encode()
        made = api.post("/v1/batches", content=lines, headers=NDJSON)
    finally:
        done.set()
        poller.join()
    assert made.status_code == 202, made.text
    assert statistics.quantiles(took, n=20)[-1] < 1
