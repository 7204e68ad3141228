"""The jobs of a batch before they are written out: entries, and what multiplies them. Counts without expanding."""

import math
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from common.jobs.best import fewest_pictures
from common.jobs.spec import MAX_SEED, JobSpec
from common.jobs.submit import Submission


@dataclass(frozen=True, slots=True)
class Entry:
    """One prompt of a matrix, or one line, as the job that it would be alone."""

    job: Submission
    seeded: bool  # whether its seed was asked for, or chosen


@dataclass(frozen=True, slots=True)
class Plan:
    """A job for each entry, for each combination of the axes, for each seed; the last changes fastest."""

    entries: Sequence[Entry]
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # resolved values of fields of the spec
    seeds: Sequence[int] | int | None = None  # or how many are chosen for each entry; None: one for each job

    @property
    def each(self) -> int:
        """Jobs of one entry."""
        times = 1 if self.seeds is None else self.seeds if isinstance(self.seeds, int) else len(self.seeds)
        return times * math.prod(map(len, self.axes.values()))

    @property
    def jobs(self) -> int:
        return len(self.entries) * self.each

    def submissions(self) -> Iterator[Submission]:
        """All jobs."""
        for entry in self.entries:
            seeds = [choose_seed() for _ in range(self.seeds)] if isinstance(self.seeds, int) else self.seeds
            for values in product(*self.axes.values()):
                chosen = dict(zip(self.axes, values, strict=True))
                for seed in seeds or [entry.job.spec.seed if entry.seeded else choose_seed()]:
                    yield replace(entry.job, spec=replace(entry.job.spec, **chosen, seed=seed))

    def kinds(self) -> Iterator[tuple[JobSpec, int]]:
        """For each kind of job that costs the same: one of them, and how many there are."""
        alike: dict[tuple[object, ...], tuple[JobSpec, int]] = {}
        for entry in self.entries:
            spec = entry.job.spec
            size = (spec.model, spec.width, spec.height, spec.num_images, spec.keep_best)
            cost = (*size, spec.scheduler, spec.num_inference_steps)
            alike[cost] = (spec, alike.get(cost, (spec, 0))[1] + 1)
        dear = {name: Counter(values) for name, values in self.axes.items() if name in _DEAR}
        others = self.each // math.prod(counts.total() for counts in dear.values())
        for spec, count in alike.values():
            for values in product(*(counts.items() for counts in dear.values())):
                changes = {name: value for name, (value, _) in zip(dear, values, strict=True)}
                times = math.prod(many for _, many in values)
                yield replace(spec, **changes), count * others * times

    def fewest_pictures(self) -> int:
        """Of the pictures that differ in the seed alone, how many there are at least."""
        times = self.each // math.prod(map(len, self.axes.values()))
        repeated = math.prod(min(Counter(values).values()) for values in self.axes.values())
        return fewest_pictures(entry.job.spec for entry in self.entries) * times * repeated


_DEAR = ("scheduler", "num_inference_steps")  # axes on which evaluations depend


def choose_seed() -> int:
    return secrets.randbelow(MAX_SEED + 1)
