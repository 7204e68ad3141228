"""How a batch is shown while it is watched: how far, how fast, how long, and what failed."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from client.watch import BatchProgress, batch_line, time_line

COUNTS = {"queued": 30, "running": 2, "succeeded": 7, "failed": 1, "canceled": 0, "expired": 0}
RUNNING: dict[str, Any] = {
    "id": "batch_1",
    "name": "prompts.csv",
    "status": "running",
    "counts": COUNTS,
    "progress": {"done": 160, "total": 800, "percent": 20.0},
    "eta_seconds": 125.0,
    "opens_at": None,
    "closes_at": None,
}
FAILED = {"id": "job_1", "error": {"code": "numerical_error", "message": "black [red]pictures[/red]"}}
DONE = {**RUNNING, "status": "completed", "counts": {**COUNTS, "queued": 0, "running": 0, "succeeded": 39}}


def watched(*batches: dict[str, Any], terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=terminal, _environ={"TERM": "xterm"})
    with BatchProgress(console, lambda most: [FAILED][:most]) as view:
        for batch in batches:
            view.update(batch)
    return stream.getvalue()


def test_a_terminal_shows_a_table_of_rate_time_left_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 60.0])
    monkeypatch.setattr("client.watch.time.monotonic", lambda: next(clock))
    later = {**RUNNING, "counts": {**COUNTS, "succeeded": 12}, "progress": {"done": 250, "total": 800, "percent": 31.2}}
    shown = watched(RUNNING, later, terminal=True)
    table = shown[shown.rindex("prompts.csv") :]
    for said in (
        "31 %, 250 of 800 evaluations",
        "12 succeeded, 1 failed",
        "5.0 jobs/min, 1.5 evaluations/s",
        "about 2:05 left",
        "job_1 numerical_error: black [red]pictures[/red]",
    ):
        assert said in table


def test_elsewhere_a_line_is_written_when_something_changed_and_a_failure_once() -> None:
    assert watched(RUNNING, RUNNING, DONE, terminal=False).splitlines() == [
        "failed: job_1 numerical_error: black [red]pictures[/red]",
        "running: 30 queued, 2 running, 7 succeeded, 1 failed, about 2:05 left",
        "completed: 39 succeeded, 1 failed",
    ]


def test_a_batch_that_waits_for_its_window_says_when_it_opens() -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    waiting = {**RUNNING, "opens_at": soon.isoformat(), "counts": {"queued": 40, "running": 0}}
    assert time_line(waiting) == f"opens {soon.astimezone():%a %d %b at %H:%M}, then about 2:05 left"
    open_now = {**RUNNING, "closes_at": soon.isoformat()}
    assert batch_line(open_now).endswith(f"about 2:05 left, closes {soon.astimezone():%a %d %b at %H:%M}")
    assert time_line(DONE) == ""
