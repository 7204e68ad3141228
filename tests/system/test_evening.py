"""README's evening: a file of prompts, a window, a worker that dies and two that come, and a morning.

The first test plays the clock: it moves the window's opening and closing in the database, and the sweeper does the
rest. The slow one waits for a window that opens in a minute and closes after one more; only the next night, which comes
a day later, has to be played there, too.
"""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx2
import pytest
from sqlalchemy import Engine, text

from common.db import make_engine, reading, transaction
from common.ids import parse_id
from tests.deployment import Kiln
from tests.processes import wait_for

THINGS = ("cat", "dog", "apple", "boat", "house", "tree", "robot", "car", "flower", "bird")
COLORS = ("red", "blue", "green", "orange")
FIELDS = {"width": 128, "height": 128, "num_inference_steps": 20, "enhance": "false"}


@pytest.fixture
def engine(kiln: Kiln) -> Iterator[Engine]:
    engine = make_engine(kiln.settings.database_url.get_secret_value(), name="kiln-test")
    yield engine
    engine.dispose()


def test_an_evening_s_file_is_painted_in_two_nights_whatever_dies(kiln: Kiln, engine: Engine, tmp_path: Path) -> None:
    """Steps lost when the window closes, jobs begun outside of it, or pictures missing in the morning."""
    prompts = write_prompts(tmp_path / "prompts.csv")
    batch = run(kiln, "run", str(prompts), "--window", later_today())
    with ExitStack() as workers:
        doomed = workers.enter_context(kiln.worker("first", checkpoint_seconds=1))
        assert counts(kiln, batch) == {"queued": 40}

        open_window(engine, batch)
        wait_for("pictures", lambda: counts(kiln, batch).get("succeeded", 0) >= 3)
        wait_for("a job at work", lambda: running_job(kiln, batch))
        close_window(engine, batch)
        wait_for("all parked", lambda: "running" not in counts(kiln, batch))
        night = counts(kiln, batch)
        assert night["succeeded"] + night["queued"] == 40
        assert not due(engine, batch)

        open_window(engine, batch)
        wait_for("a job at work", lambda: running_job(kiln, batch))
        doomed.send_signal(signal.SIGKILL)
        for name in ("second", "third"):
            workers.enter_context(kiln.worker(name))
        done = run(kiln, "watch", batch["id"])

    assert done["status"] == "completed"
    check_morning(kiln, batch, tmp_path / "pictures")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_window_opens_and_closes_by_the_clock(kiln: Kiln, engine: Engine, tmp_path: Path) -> None:
    """What the played clock hides: a minute rounded, a zone misread, a close that only the next sweep after it sees."""
    prompts = write_prompts(tmp_path / "prompts.csv", num_inference_steps=200)
    with ExitStack() as workers:
        doomed, *_ = [
            workers.enter_context(kiln.worker(f"clock-{name}", checkpoint_seconds=1))
            for name in ("first", "second", "third")
        ]
        opens = next_minute(datetime.now(UTC) + timedelta(seconds=30))
        closes = opens + timedelta(minutes=1)
        batch = run(kiln, "run", str(prompts), "--window", f"{opens:%H:%M}-{closes:%H:%M}")
        assert [moment(batch[name]) for name in ("opens_at", "closes_at")] == [opens, closes]

        wait_for("a job at work", lambda: running_job(kiln, batch), seconds=150)
        assert opens <= datetime.now(UTC) < closes
        doomed.send_signal(signal.SIGKILL)
        wait_for("closing time", lambda: datetime.now(UTC) >= closes, seconds=150)
        wait_for("all parked", lambda: "running" not in counts(kiln, batch), seconds=60)
        night = counts(kiln, batch)
        assert night["queued"] > 0, "all was painted before the window closed"
        assert night["queued"] + night.get("succeeded", 0) == 40
        tomorrow = opens + timedelta(days=1)
        assert moment(show(kiln, batch)["opens_at"]) == tomorrow
        waiting = httpx2.get(f"{kiln.url}/v1/jobs", params={"batch_id": batch["id"], "status": "queued"}, timeout=30)
        assert {moment(job["input"]["not_before"]) for job in waiting.json()["data"]} == {tomorrow}

        open_window(engine, batch)
        done = run(kiln, "watch", batch["id"])

    assert done["status"] == "completed"
    check_morning(kiln, batch, tmp_path / "pictures")


def check_morning(kiln: Kiln, batch: dict[str, Any], folder: Path) -> None:
    """Every picture is there, what was parked was taken up, and the report tells of all."""
    assert counts(kiln, batch) == {"succeeded": 40}
    logs = "".join(log.read_text() for log in kiln.logs.glob("*.log"))
    assert "job parked" in logs
    assert "job resumed" in logs
    figures = httpx2.get(f"{kiln.url}/v1/batches/{batch['id']}/report?format=json", timeout=30).json()
    assert (figures["pictures"], len(figures["scores"]["prompt"]), figures["failures"]) == (40, 40, [])
    told = run(kiln, "download", batch["id"], str(folder))
    assert told["saved"] == len(list(folder.iterdir())) == 40


def write_prompts(path: Path, **changes: object) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, ["prompt", *FIELDS])
        lines.writeheader()
        for thing in THINGS:
            for color in COLORS:
                lines.writerow({"prompt": f"a {color} {thing}"} | FIELDS | changes)
    return path


def later_today() -> str:
    """A window that opens in two hours, for one hour."""
    now = datetime.now(ZoneInfo("UTC"))
    start, end = (now + timedelta(hours=hours) for hours in (2, 3))
    return f"{start:%H:%M}-{end:%H:%M}"


def run(kiln: Kiln, *arguments: str) -> dict[str, Any]:
    """What `kiln batch` answers."""
    done = subprocess.run(
        [sys.executable, "-m", "client", "batch", *arguments, "--json"],
        env=os.environ | {"KILN_API_URL": kiln.url, "TZ": "UTC"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stderr}{kiln.tails()}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def next_minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def moment(told: str) -> datetime:
    return datetime.fromisoformat(told)


def show(kiln: Kiln, batch: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = httpx2.get(f"{kiln.url}/v1/batches/{batch['id']}", timeout=30).json()
    return shown


def counts(kiln: Kiln, batch: dict[str, Any]) -> dict[str, int]:
    """Of the states that any job is in."""
    return {status: count for status, count in show(kiln, batch)["counts"].items() if count}


def running_job(kiln: Kiln, batch: dict[str, Any]) -> bool:
    """Whether some job is between its first step and its last."""
    found = httpx2.get(f"{kiln.url}/v1/jobs", params={"batch_id": batch["id"], "status": "running"}, timeout=30).json()
    return any(job["progress"]["done"] for job in found["data"])


def open_window(engine: Engine, batch: dict[str, Any]) -> None:
    """As if it were that hour."""
    with transaction(engine) as connection:
        connection.execute(
            text("UPDATE jobs SET not_before = clock_timestamp() WHERE batch_id = :id AND status = 'queued'"),
            key(batch),
        )


def close_window(engine: Engine, batch: dict[str, Any]) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE batches SET closes_at = clock_timestamp() WHERE id = :id"), key(batch))


def due(engine: Engine, batch: dict[str, Any]) -> int:
    statement = (
        "SELECT count(*) FROM jobs WHERE batch_id = :id AND status = 'queued' AND not_before <= clock_timestamp()"
    )
    with reading(engine) as connection:
        number: int = connection.execute(text(statement), key(batch)).scalar_one()
    return number


def key(batch: dict[str, Any]) -> dict[str, UUID]:
    return {"id": parse_id("batch", batch["id"])}
