"""An interactive job through the whole of Kiln while a batch of a thousand runs, against the same on an idle system."""

from datetime import datetime
from pathlib import Path
from typing import Any

from bench.result import Result, at_most, ratios, told
from bench.rivals import asked, through_kiln
from bench.throughput import make_spec
from client.api import Kiln
from common.local.stack import running_stack

BATCH, PEOPLE = 1000, 9


def measure(home: Path, quick: bool) -> list[Result]:
    batch, people = (20, 2) if quick else (BATCH, PEOPLE)
    spec = make_spec(0, enhance=True)
    with running_stack(home) as stack, Kiln(stack.api_url) as kiln:
        through_kiln(kiln, [spec])
        idle = [_latency(kiln, asked(spec)) for _ in range(people)]
        for seed in range(batch):
            kiln.submit(**asked(make_spec(seed, enhance=True)), lane="batch")
        busy = [_latency(kiln, asked(spec)) for _ in range(people)]
    what = f"an interactive job, whole system, while a batch of {batch} runs"
    return [
        at_most(f"{what} ÷ on an idle one (one after the other: not interleaved)", ratios(busy, idle), 1.5),
        told("the same in seconds, while the batch runs", busy, " s"),
        told("the same in seconds, on an idle system", idle, " s"),
    ]


def _latency(kiln: Kiln, fields: dict[str, Any]) -> float:
    """Seconds from its row to its picture, by the server's clock: a client's polls would blur them."""
    job = kiln.wait(kiln.submit(**fields)["id"])
    assert job["status"] == "succeeded", job  # noqa: S101 - a failed job measures nothing
    created, finished = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
    return (finished - created).total_seconds()
