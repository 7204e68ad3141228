"""What one measurement found, and the table they make together."""

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


def spread(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """The median, and in brackets the least and the most."""
    median, least, most = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f}{unit} ({least:.{digits}f}–{most:.{digits}f})"  # noqa: RUF001 - a range's dash


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
