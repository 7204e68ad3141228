"""An interactive job's latency while a thousand batch jobs fill the fake device, against the same on an idle one."""

import time
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

from bench.fake import A_MS, B_MS, SLOTS, Job, mix
from bench.painters import Engine
from bench.result import Result, at_most, ratios, told
from worker.diffusion.slots import Width

BATCH = 1000
PERSON = Job("dpm_solver_multistep", 25, 7.5)


def measure(home: Path, quick: bool) -> list[Result]:
    rounds = 1 if quick else 7
    return [
        result for width in (Width(SLOTS, exact=True), Width(SLOTS, exact=False)) for result in _rows(width, rounds)
    ]


def _rows(width: Width, rounds: int) -> list[Result]:
    idle, busy = [], []
    for turn in range(rounds):
        with Engine(width) as engine:
            engine.paint(PERSON)  # the first of its shape is tried out
            idle.append(_latency(engine))
            batch = [engine.submit(job) for job in mix(BATCH, seed=turn)]
            wait(batch, return_when=FIRST_COMPLETED)  # by then the slots are as full as they get
            busy.append(_latency(engine))
    mode = "exact" if width.exact else "fast"
    return [
        at_most(
            f"an interactive job of 25 steps while a batch of {BATCH} runs ÷ alone, {mode} mode; "
            f"{A_MS:g} + {B_MS:g}·n ms, {SLOTS} slots",
            ratios(busy, idle),
            1.5,
        ),
        told("the same in seconds, in company", busy, " s"),
        told("the same in seconds, alone", idle, " s"),
    ]


def _latency(engine: Engine) -> float:
    began = time.perf_counter()
    return engine.paint(PERSON) - began
