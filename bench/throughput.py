"""Pictures per second through the whole of Kiln against its rivals: same weights, cores, steps and seeds."""

from dataclasses import replace
from pathlib import Path

from bench.race import Speeds, race
from bench.result import Result, at_least, ratios, told
from common.jobs.spec import JobSpec
from common.styles import DEFAULT_STYLE
from demo import trials

JOBS = 32


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, jobs = (1, 4) if quick else (3, JOBS)
    bare, whole = ([make_spec(seed, enhance=enhance) for seed in range(jobs)] for enhance in (False, True))
    alone, everything = race(home, "demo", [bare, whole], rounds)
    what = f"pictures/s, whole system, {jobs} jobs of the demo model"
    return [
        at_least(
            f"{what} ÷ plain diffusers loop, which neither scores nor makes thumbnails",
            ratios(alone.kiln, alone.plain),
            0.95,
        ),
        at_least("the same ÷ a Celery task per job, which does as little", ratios(alone.kiln, alone.naive), 1.2),
        told("the same ÷ plain loop, where all enhance and score", ratios(everything.kiln, everything.plain)),
        told(
            "the same ÷ a Celery task per job, where all enhance and score", ratios(everything.kiln, everything.naive)
        ),
        *tell_speeds(alone),
    ]


def tell_speeds(speeds: Speeds) -> list[Result]:
    return [
        told("pictures/s of the whole system", speeds.kiln),
        told("pictures/s of the plain loop", speeds.plain),
        told("pictures/s of a Celery task per job", speeds.naive),
    ]


def make_spec(seed: int, *, enhance: bool) -> JobSpec:
    """A job of the API's defaults."""
    return replace(trials.make_spec("a red apple on a wooden table", DEFAULT_STYLE, seed), enhance=enhance)
