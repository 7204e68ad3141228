"""How a job's stages are shown: on a terminal, and where there is none."""

import io
from typing import Any

import pytest
from rich.console import Console

from client.output import printable
from client.progress import JobProgress, stage_line, stage_rows, waiting_note
from common.names import duration

QUEUED: dict[str, Any] = {
    "status": "queued",
    "stage": None,
    "progress": {"done": 0, "total": 20, "percent": 0.0},
    "queue_position": 3,
    "eta_seconds": 41.0,
    "servable": True,
    "attempt": 0,
    "input": {"model": "demo"},
    "timings": None,
    "started_at": None,
}
DIFFUSING = {
    **QUEUED,
    "status": "running",
    "stage": "diffuse",
    "progress": {"done": 5, "total": 20, "percent": 25.0},
    "queue_position": None,
    "eta_seconds": 7.5,
    "attempt": 1,
    "timings": {"queued_ms": 120, "enhance_ms": 1400},
    "started_at": "2026-11-23T07:00:00Z",
}
SUCCEEDED = {**DIFFUSING, "status": "succeeded", "stage": None, "eta_seconds": None}


def shown(job: dict[str, Any]) -> list[tuple[str, int, int | None, str]]:
    return [(row.name, row.done, row.total, row.note) for row in stage_rows(job)]


def test_a_queued_job_shows_its_place_and_when_it_may_be_done() -> None:
    assert shown(QUEUED)[0] == ("queue", 0, None, "position 3, about 41 s left")
    assert [row[1:] for row in shown(QUEUED)[1:]] == [(0, 1, "")] * 4


def test_a_running_job_shows_evaluations_and_what_lies_behind_it() -> None:
    assert shown(DIFFUSING) == [
        ("queue", 1, 1, "120 ms"),
        ("enhance", 1, 1, "1.4 s"),
        ("diffuse", 5, 20, "5/20 evaluations, about 7.5 s left"),
        ("score", 0, 1, ""),
        ("store", 0, 1, ""),
    ]


def test_a_succeeded_job_is_full_and_a_failed_one_says_where() -> None:
    assert shown(SUCCEEDED)[2] == ("diffuse", 1, 1, "20 evaluations")
    assert all(row.done == row.total for row in stage_rows(SUCCEEDED))
    assert shown({**DIFFUSING, "status": "failed"})[2] == ("diffuse", 0, 1, "failed")
    assert shown({**QUEUED, "status": "canceled"})[0] == ("queue", 0, 1, "canceled")


def test_a_job_given_back_to_the_queue_starts_over_and_says_so() -> None:
    parked = {**DIFFUSING, "status": "queued", "queue_position": 1}
    assert [row.done for row in stage_rows(parked)] == [0] * 5
    assert "attempt 1" in waiting_note(parked)


def test_a_model_that_no_worker_has_is_named() -> None:
    assert waiting_note({**QUEUED, "servable": False}) == "no live worker has the model demo"


def test_without_a_terminal_each_change_is_one_line_without_control_codes() -> None:
    stream = io.StringIO()
    with JobProgress(Console(file=stream, width=30)) as view:
        for job in (QUEUED, QUEUED, {**DIFFUSING, "stage": "enhance"}, DIFFUSING, DIFFUSING, SUCCEEDED):
            view.update(job)
    assert stream.getvalue().splitlines() == [
        "queued: position 3",
        "enhance",
        "diffuse (20 evaluations)",
        "succeeded",
    ]


def test_on_a_terminal_every_stage_has_its_row() -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with JobProgress(terminal) as view:
        view.update(QUEUED)
        view.update(DIFFUSING)
    rows = stream.getvalue()[stream.getvalue().rindex("queue") :].splitlines()
    for row, words in enumerate(["queue", "enhance", "5/20 evaluations, about 7.5 s left", "score", "store"]):
        assert words in rows[row]


def test_a_line_does_not_change_with_every_step() -> None:
    later = {**DIFFUSING, "progress": {"done": 6, "total": 20, "percent": 30.0}}
    assert stage_line(DIFFUSING) == stage_line(later)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "40 ms"), (1.44, "1.4 s"), (9.96, "10 s"), (12, "12 s"),
        (59.6, "1:00"), (185, "3:05"), (7209, "2:00:09"),
    ],
)  # fmt: skip
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_text_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[2Jb\ud800\nc é") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}\nc é"
