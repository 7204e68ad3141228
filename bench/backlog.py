"""A mixed backlog on the fake device: pictures per second against rivals that know no steps, and how full calls are."""

from collections import defaultdict
from concurrent.futures import as_completed
from contextlib import ExitStack
from pathlib import Path

from bench.fake import CONSTANTS, SLOTS, Job, mix
from bench.painters import Alike, Engine, drain
from bench.result import Result, at_least, ratios, told
from worker.diffusion.slots import Width

FAST = Width(SLOTS, exact=False)


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, count = (1, SLOTS + 4) if quick else (3, 4 * SLOTS)
    mixed, alike = mix(count, seed=1), [Job("lms_discrete", 25, 7.5)] * count
    speeds: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(FAST))
        batches, one_by_one = stack.enter_context(Alike(SLOTS)), stack.enter_context(Alike(1))
        for _ in range(rounds):
            speeds["engine"].append(count / drain(engine, mixed))
            speeds["batches"].append(count / drain(batches, mixed))
            speeds["one by one"].append(count / drain(one_by_one, mixed))
            speeds["engine, alike"].append(count / drain(engine, alike))
            speeds["batches, alike"].append(count / drain(batches, alike))
    ours = speeds["engine"]
    return [
        told(f"pictures/s of {count} mixed jobs that are there at once; {CONSTANTS}", ours),
        told("the same ÷ one job after the other", ratios(ours, speeds["one by one"])),
        told(
            "the same ÷ batches of equal parameters, each as large as the backlog allows",
            ratios(ours, speeds["batches"]),
        ),
        told("the same, where all jobs are equal", ratios(speeds["engine, alike"], speeds["batches, alike"])),
        at_least(
            f"rows used ÷ rows there are, all jobs guided, while {SLOTS} jobs or more wait or run",
            [_occupancy([job for job in mix(2 * count, seed) if job.rows > 1]) for seed in range(rounds)],
            0.99,
        ),
        told(
            "the same, a third of the jobs without guidance", [_occupancy(mix(count, seed)) for seed in range(rounds)]
        ),
    ]


def _occupancy(jobs: list[Job]) -> float:
    """From the first call until fewer jobs than slots are left."""
    with Engine(FAST) as engine:
        running = as_completed([engine.submit(job) for job in jobs])
        for _ in range(len(jobs) - SLOTS):
            next(running)
        return engine.unet.used / engine.unet.offered
