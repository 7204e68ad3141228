"""Mixed traffic on the fake device at 70 % load: how much longer a job takes than alone, against LitServe."""

import random
from collections import defaultdict
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path

from bench.fake import CONSTANTS, SLOTS, Job, call_seconds, mix
from bench.litclient import LitServe
from bench.painters import Alike, Engine, Painter, play
from bench.result import Result, at_most, percentile, ratios, told
from worker.diffusion.slots import ROWS, Width

LOAD = 0.7
JOBS = 150
NAMES = {"engine": "step by step", "litserve": "LitServe", "alike": "ideal batches of equal parameters"}


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, count = (1, 10) if quick else (3, JOBS)
    with ExitStack() as stack:
        painters: dict[str, Painter] = {
            "engine": stack.enter_context(Engine(Width(SLOTS, exact=False))),
            "litserve": stack.enter_context(LitServe(home)),
            "alike": stack.enter_context(Alike(SLOTS)),
        }
        return compare(painters, rounds, count)


def compare(painters: dict[str, Painter], rounds: int, count: int) -> list[Result]:
    """Every painter gets the same jobs at the same moments."""
    seconds: dict[str, list[list[float]]] = defaultdict(list)
    slowdowns: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds):
        jobs = mix(count, seed=100 + turn)
        for name, painter in painters.items():
            latencies = play(painter, jobs, arrive(jobs, seed=turn))
            seconds[name].append(latencies)
            alone = [job.seconds_alone for job in jobs]
            slowdowns[name].append(percentile(ratios(latencies, alone), 95))
    return _rows(seconds, slowdowns, count)


def arrive(jobs: list[Job], seed: int) -> list[float]:
    """A moment in seconds for each job, by chance alone (Poisson): LOAD of what full calls could do."""
    chance = random.Random(seed)  # noqa: S311 - the same moments for every side
    capacity = SLOTS / call_seconds(SLOTS * ROWS)  # pair-steps per second
    rate = LOAD * capacity * len(jobs) / sum(job.pair_steps for job in jobs)
    return list(accumulate(chance.expovariate(rate) for _ in jobs))


def _rows(seconds: dict[str, list[list[float]]], slowdowns: dict[str, list[float]], count: int) -> list[Result]:
    ours = slowdowns["engine"]
    what = f"p95 of (latency ÷ latency alone), {count} mixed jobs at {LOAD:.0%} load; {CONSTANTS}: step by step ÷ "
    rows = [
        at_most(what + NAMES["litserve"], ratios(ours, slowdowns["litserve"]), round(1 / 6, 3))
        if "litserve" in slowdowns
        else None,
        told("the same: step by step ÷ " + NAMES["alike"], ratios(ours, slowdowns["alike"])),
    ]
    for name in slowdowns:
        rows.append(told(f"p95 of (latency ÷ latency alone), {NAMES[name]}", slowdowns[name]))
        for percent in (50, 95):
            spread = [percentile(latencies, percent) for latencies in seconds[name]]
            rows.append(told(f"latency p{percent}, {NAMES[name]}", spread, " s"))
    return [row for row in rows if row]
