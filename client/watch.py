"""A batch as the API tells it, again and again, in; a table that moves on a terminal, some lines elsewhere, out.

Nothing of it lives on: whoever leaves and comes back sees the same, but for the rate, which is of what was watched.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from client.output import printable
from common.names import duration

OVER = ("succeeded", "failed", "canceled", "expired")
RATE_SECONDS = 120  # of which the rate is told: long enough to be steady, short enough to see a worker come
SHOWN = 3  # failures

Rate = tuple[float, float]  # jobs and evaluations a second
Failures = Callable[[int], Iterable[dict[str, Any]]]  # the newest failed jobs, so many at most


class BatchProgress:
    """``with BatchProgress(console, failures) as view: kiln.wait_batch(id, on_update=view.update)``"""

    def __init__(self, console: Console, failures: Failures | None = None) -> None:
        self._console = console
        self._failures = failures or (lambda most: ())
        self._failed: list[dict[str, Any]] = []
        self._failures_seen = 0
        self._seen: deque[tuple[float, int, int]] = deque()  # when, jobs over, evaluations done
        self._said: tuple[str, int] | None = None  # status and tenths: a night's batch is no thousand lines
        self._live = Live(console=console, auto_refresh=False) if console.is_interactive else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, batch: dict[str, Any]) -> None:
        """Show ``batch`` as it is now."""
        new = self._look_for_failures(batch["counts"]["failed"])
        if self._live:
            rate = self._measure(batch, time.monotonic())
            self._live.update(batch_table(batch, rate, self._failed), refresh=True)
            return
        for job in reversed(new):
            self._print(f"failed: {failure_line(job)}")
        if (said := (batch["status"], int(batch["progress"]["percent"] // 10))) != self._said:
            self._said = said
            self._print(batch_line(batch))

    def _print(self, line: str) -> None:
        self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def _look_for_failures(self, count: int) -> list[dict[str, Any]]:
        """Those that are new since the last look; asked for only where there are more."""
        if count == 0 or self._failures_seen == count:
            return []
        known = {job["id"] for job in self._failed}
        self._failures_seen = count
        self._failed = list(self._failures(SHOWN))
        return [job for job in self._failed if job["id"] not in known]

    def _measure(self, batch: dict[str, Any], now: float) -> Rate | None:
        """Jobs and evaluations a second, of late; None until something has moved."""
        self._seen.append((now, sum(batch["counts"][status] for status in OVER), batch["progress"]["done"]))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        then, jobs, evaluations = self._seen[0]
        _, jobs_now, evaluations_now = self._seen[-1]
        if now - then < 1 or evaluations_now <= evaluations:
            return None
        return (jobs_now - jobs) / (now - then), (evaluations_now - evaluations) / (now - then)


def batch_table(batch: dict[str, Any], rate: Rate | None, failed: Iterable[dict[str, Any]]) -> RenderableType:
    """How far it is, how fast it goes, how long it takes, and what went wrong."""
    progress = batch["progress"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    bar = Table.grid(padding=(0, 1))
    done = f"{progress['percent']:.0f} %, {progress['done']:,} of {progress['total']:,} evaluations"
    bar.add_row(ProgressBar(total=max(1, progress["total"]), completed=progress["done"], width=30), done)
    table.add_row("batch", Text(printable(f"{batch['name']} {batch['id']}".strip())))
    table.add_row(Text(batch["status"], style="bold"), bar)
    table.add_row("jobs", counts_line(batch))
    table.add_row("rate", f"{60 * rate[0]:.1f} jobs/min, {rate[1]:.1f} evaluations/s" if rate else "–")  # noqa: RUF001 - a dash
    table.add_row("left", time_line(batch) or "–")  # noqa: RUF001 - a dash
    for job in failed:
        table.add_row(Text("failed", style="red"), Text(printable(failure_line(job))))
    return Group(table)


def batch_line(batch: dict[str, Any]) -> str:
    """What became of a batch's jobs so far, and how long the others may take."""
    return ", ".join(filter(None, [f"{batch['status']}: {counts_line(batch)}", time_line(batch)]))


def counts_line(batch: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in batch["counts"].items() if count)


def time_line(batch: dict[str, Any]) -> str:
    """When it goes on, where it waits for its window; how long it takes; when it is interrupted."""
    if not (batch["counts"]["queued"] or batch["counts"]["running"]) or batch["status"] == "canceled":
        return ""
    left = f"about {duration(batch['eta_seconds'])} left" if batch["eta_seconds"] else ""
    if batch.get("opens_at") and not batch["counts"]["running"]:
        return ", ".join(filter(None, [f"opens {_clock(batch['opens_at'])}", left and f"then {left}"]))
    closes = f"closes {_clock(batch['closes_at'])}" if batch.get("closes_at") else ""
    return ", ".join(filter(None, [left, closes]))


def failure_line(job: dict[str, Any]) -> str:
    error = job["error"] or {}
    return f"{job['id']} {error.get('code', '')}: {error.get('message') or error.get('detail') or ''}".rstrip(": ")


def _clock(moment: str) -> str:
    """By this machine's clock; with the day, where it is another."""
    then, now = datetime.fromisoformat(moment).astimezone(), datetime.now().astimezone()
    return f"at {then:%H:%M}" if then.date() == now.date() else f"{then:%a %d %b at %H:%M}"
