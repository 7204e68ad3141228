"""Night windows: a start, an end, a zone and weekdays in; when jobs may run, as instants, out. Pure."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

_MINUTE = timedelta(minutes=1)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when, in UTC. The end is no longer inside."""

    opens: datetime
    closes: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """Every day of ``days`` from ``start`` until the next ``end``, by the clocks of ``zone``."""

    start: time
    end: time
    zone: ZoneInfo
    days: tuple[str, ...] = DAYS  # on which it opens

    def span(self, now: datetime) -> Span:
        """The span that ``now`` is in, or else the next one."""
        day = now.astimezone(self.zone).date() - timedelta(days=1)  # yesterday's span may not be over
        while True:
            found = Span(self._first(day), self._last(day))
            if DAYS[day.weekday()] in self.days and max(found.opens, now) < found.closes:  # clocks may skip it whole
                return found
            day += timedelta(days=1)

    def _first(self, day: date) -> datetime:
        return min(self._instants(day, self.start))

    def _last(self, day: date) -> datetime:
        return max(self._instants(day if self.start < self.end else day + timedelta(days=1), self.end))

    def _instants(self, day: date, at: time) -> tuple[datetime, datetime]:
        """When clocks show ``at``: the same twice but where they are put back; for what they skip, when they do."""
        shown = datetime.combine(day, at)
        once, again = (shown.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if once <= again:
            return once, again
        minutes = range((once - again) // _MINUTE + 1)  # skipped: the offset before it makes the later instant
        found = again + _MINUTE * bisect_left(minutes, shown, key=lambda late: self._clock(again + _MINUTE * late))
        return found, found

    def _clock(self, instant: datetime) -> datetime:
        return instant.astimezone(self.zone).replace(tzinfo=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "start": self.start.isoformat("minutes"),
            "end": self.end.isoformat("minutes"),
            "tz": self.zone.key,
            "days": list(self.days),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            time.fromisoformat(data["start"]),
            time.fromisoformat(data["end"]),
            ZoneInfo(data["tz"]),
            tuple(data["days"]),
        )
