"""What one measurement found, and how its figures are told."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """One row: what was measured, what for, and whether the aim is met. ``met`` is None where there is no aim."""

    what: str
    measured: str
    aim: str
    met: bool | None

    @property
    def verdict(self) -> str:
        return "" if self.met is None else "ok" if self.met else "missed"


def at_least(what: str, values: Sequence[float], aim: float, unit: str = "") -> Result:
    return Result(what, spread(values, unit), f"≥ {aim:g}{unit}", statistics.median(values) >= aim)


def at_most(what: str, values: Sequence[float], aim: float, unit: str = "") -> Result:
    return Result(what, spread(values, unit), f"≤ {aim:g}{unit}", statistics.median(values) <= aim)


def told(what: str, values: Sequence[float], unit: str = "") -> Result:
    """A figure without an aim."""
    return Result(what, spread(values, unit), "", None)


def spread(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """The median, and in brackets the least and the most."""
    median, least, most = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f}{unit} ({least:.{digits}f}–{most:.{digits}f})"  # noqa: RUF001 - a range's dash


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Turn by turn, so that what slows the machine for a while slows both."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
