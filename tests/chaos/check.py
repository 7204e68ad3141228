"""``python -m tests.chaos.check LOG``: the database, the bucket and a client's log of its 202s in; what was kept, out.

It knows nothing of how Kiln works: it holds what lies there against what was promised. Writes nothing.
"""

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import print_json
from sqlalchemy import Engine, Row, text

from common.db import make_engine, reading
from common.errors import NotFound
from common.ids import parse_id
from common.objects import Objects
from common.settings import Settings, read_settings
from tests.chaos.history import OVER, Event, broken_history, percentile, recoveries, second_ends

JOBS = "SELECT id, status, attempt, idempotency_key, spec, error ->> 'code' AS code FROM jobs"
IMAGES = "SELECT job_id, key, sha256 FROM images"
EVENTS = "SELECT job_id, at, attempt, from_status, to_status FROM events ORDER BY job_id, id"


@dataclass(frozen=True, slots=True)
class Report:
    """Numbers of jobs; seconds from a lost attempt's beginning to the next one's; each violation in a sentence."""

    attempted: int
    acknowledged: int
    succeeded: int
    lost: int
    duplicated: int
    unexpected: int
    recovered: int | None
    recovery_p50: float | None
    recovery_p99: float | None
    attempts_per_success: float | None
    violations: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.lost + self.duplicated + self.unexpected


def check(engine: Engine, objects: Objects, log: Iterable[str]) -> Report:
    """Hold the database and the bucket against ``log``: JSON lines {"asked": key}, {"accepted": id, "key": key},
    {"canceled": id}, and {"doomed": id, "code": code} of a job that has to fail so. All jobs are expected to be over.
    Raises Unavailable or StorageError."""
    told = [json.loads(line) for line in log]
    rows, images, events = _read(engine)
    asked = {line["asked"] for line in told if "asked" in line}
    accepted = {parse_id("job", line["accepted"]).hex: line["key"] for line in told if "accepted" in line}
    canceled = {parse_id("job", line["canceled"]).hex for line in told if "canceled" in line}
    doomed = {parse_id("job", line["doomed"]).hex: line["code"] for line in told if "doomed" in line}
    lost = [f"{job} was accepted and is {_state(rows.get(job))}" for job in accepted if not _over(rows.get(job))]
    doubled = _doubled(accepted, rows.values()) + [
        f"{job} has pictures of {len(attempts)} attempts"
        for job, found in images.items()
        if len(attempts := {_attempt(image.key) for image in found if image.key}) > 1
    ]
    doubled += [sentence for job in rows for sentence in second_ends(job, events[job])]
    odd = [f"{row.id.hex} was never asked for" for row in rows.values() if row.idempotency_key not in asked]
    odd += [
        sentence
        for job, row in rows.items()
        if (
            sentence := _spared(row, doomed[job]) if job in doomed else _odd(row, images[job], objects, job in canceled)
        )
    ]
    odd += [sentence for job, row in rows.items() for sentence in broken_history(job, row.status, events[job])]
    done = [row for row in rows.values() if row.status == "succeeded"]
    waits = [seconds for found in events.values() for seconds in recoveries(found)]
    return Report(
        attempted=len(asked),
        acknowledged=len(accepted),
        succeeded=len(done),
        lost=len(lost),
        duplicated=len(doubled),
        unexpected=len(odd),
        recovered=sum(row.attempt > 1 for row in done),
        recovery_p50=percentile(waits, 0.5),
        recovery_p99=percentile(waits, 0.99),
        attempts_per_success=round(sum(row.attempt for row in done) / len(done), 3) if done else None,
        violations=(*lost, *doubled, *odd),
    )


def _read(engine: Engine) -> tuple[dict[str, Row[Any]], dict[str, list[Row[Any]]], dict[str, list[Event]]]:
    """The jobs, and by job its images and its events in order."""
    images: dict[str, list[Row[Any]]] = defaultdict(list)
    events: dict[str, list[Event]] = defaultdict(list)
    with reading(engine) as connection:
        rows = {row.id.hex: row for row in connection.execute(text(JOBS))}
        for image in connection.execute(text(IMAGES)):
            images[image.job_id.hex].append(image)
        for event in connection.execute(text(EVENTS)):
            events[event.job_id.hex].append(Event(*event[1:]))
    return rows, images, events


def _over(row: Row[Any] | None) -> bool:
    return row is not None and row.status in OVER


def _state(row: Row[Any] | None) -> str:
    return "gone" if row is None else f"still {row.status}"


def _doubled(accepted: dict[str, str], rows: Iterable[Row[Any]]) -> list[str]:
    """Keys that stand for more than one job, in what the client was told or in the database."""
    told = {(key, job) for job, key in accepted.items()}
    counts = Counter(key for key, _ in told | {(row.idempotency_key, row.id.hex) for row in rows})
    return [f"the key {key} has {count} jobs" for key, count in counts.items() if count > 1]


def _odd(row: Row[Any], images: Sequence[Row[Any]], objects: Objects, cancel: bool) -> str:
    """What is wrong with a job that is over, '' where nothing is."""
    if row.status == "succeeded":
        if len(images) != row.spec["num_images"]:
            return f"{row.id.hex} succeeded with {len(images)} of {row.spec['num_images']} pictures"
        wrong = [fault for image in images if image.key and (fault := _wrong(image, row.attempt, objects))]
        return f"{row.id.hex}: {'; '.join(wrong)}" if wrong else ""
    if images:
        return f"{row.id.hex} is {row.status} and has pictures"
    if row.status in ("failed", "expired") or (row.status == "canceled" and not cancel):
        return f"{row.id.hex} is {row.status}: {row.code}"
    return ""


def _spared(row: Row[Any], code: str) -> str:
    """What is wrong with a job that had to fail with ``code``."""
    return "" if (row.status, row.code) == ("failed", code) else f"{row.id.hex} is {row.status}: {row.code}, not {code}"


def _wrong(image: Row[Any], attempt: int, objects: Objects) -> str:
    if _attempt(image.key) not in (attempt, None):
        return f"{image.key} is not of the attempt that won, {attempt}"
    try:
        found = hashlib.sha256(b"".join(objects.open(image.key))).hexdigest()
    except NotFound:
        return f"{image.key} is not there"
    return "" if found == image.sha256 else f"{image.key} has other bytes than recorded"


def _attempt(key: str) -> int | None:
    """The attempt that the key names; None where it names none (N2), and only its bytes can tell."""
    match key.split("/"):
        case [_, _, attempt, _]:
            return int(attempt)
    return None


def main() -> None:
    """Print the report as JSON; exit code 1 where a promise was broken."""
    settings = read_settings(Settings)
    engine = make_engine(settings.database_url.get_secret_value(), name="kiln-check", pool_size=1)
    report = check(engine, Objects.from_settings(settings), Path(sys.argv[1]).read_text().splitlines())
    print_json(data=asdict(report))
    sys.exit(not report.passed)


if __name__ == "__main__":
    main()
