"""The claim on a real PostgreSQL with a thousand queued rows and with a million, most of which it may not take."""

import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import Engine, event

from bench.contract import SIZES, mix
from bench.result import Result, at_most, percentile, ratios, told
from common.db import make_engine
from common.jobs.claim import claim_job
from common.local.services import Services, running_services

FEW, MANY = 1_000, 1_000_000
SPREAD, FIRST = "every third row paused or not yet due", "as many paused or not yet due, and first in the order"
CROWD = "the same, and three fifths of models that nobody serves, and suspects, first in the order as well"
OWNERS = 100
TURN_MS = 5_000

# A third of the rows is not due: half of these paused, half due tomorrow. Where they stand first, they go before
# every other by their priority. In a crowd so do the jobs of models that nobody serves, three fifths of all, and every
# eighth of the served one, which failed before.
FILL = """
INSERT INTO jobs (id, owner, spec, spec_digest, model, metadata, fingerprint, lane, priority, turn, not_before,
                  published_at, progress_total, attempt, failures)
SELECT gen_random_uuid(), 'owner' || n % %(owners)s, %(spec)s::jsonb, 'digest',
       CASE WHEN %(crowd)s AND n %% 5 < 3 THEN 'other' || n %% 2 ELSE 'demo' END, '{}', 'fingerprint',
       CASE WHEN n %% 10 = 0 THEN 'interactive' ELSE 'batch' END,
       CASE WHEN %(first)s AND n %% 3 = 0 OR %(crowd)s AND (n %% 5 < 3 OR n %% 8 = 7) THEN 1000 ELSE 0 END,
       n / %(owners)s,
       CASE WHEN n %% 6 = 0 THEN 'infinity' WHEN n %% 3 = 0 THEN now() + interval '1 day' ELSE now() END,
       now(), 20,
       CASE WHEN %(crowd)s AND n %% 8 = 7 THEN 1 ELSE 0 END, CASE WHEN %(crowd)s AND n %% 8 = 7 THEN 1 ELSE 0 END
FROM generate_series(1, %(rows)s) AS n
""".replace("n % %(owners)s", "n %% %(owners)s")


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, calls, many = (2, 20, 20_000) if quick else (5, 100, MANY)
    with running_services(home) as services, ExitStack() as stack:
        results = []
        for place in (SPREAD, FIRST, CROWD):
            few, full = (stack.enter_context(_queue(services, rows, place)) for rows in (FEW, many))
            results += _compare(few, full, place, rounds, calls, many)
        return results


def _compare(few: Engine, full: Engine, place: str, rounds: int, calls: int, many: int) -> list[Result]:
    """Claims in turn from the short queue and the long one."""
    times: dict[Engine, list[list[float]]] = defaultdict(list)
    oldest: dict[Engine, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for engine in (few, full):
            times[engine].append(_time_claims(engine, calls))
            oldest[engine].append(percentile(_time_claims(engine, calls // 4, oldest=True), 50))
    medians = {engine: [percentile(turn, 50) for turn in turns] for engine, turns in times.items()}
    slow = [percentile(turn, 95) for turn in times[full]]
    return [
        at_most(
            f"claim with {many:,} queued rows ÷ with {FEW:,}, p50; {place}", ratios(medians[full], medians[few]), 1.5
        ),
        at_most("the same, where the oldest job is claimed", ratios(oldest[full], oldest[few]), 1.5),
        told(f"claim with {many:,} rows, p50; {place}", medians[full], " ms"),
        told(f"claim with {many:,} rows, p95; {place}", slow, " ms"),
        Result(f"indexes that the claim uses at {many:,} rows (EXPLAIN); {place}", _explain(full), "", None),
    ]


def _time_claims(engine: Engine, calls: int, *, oldest: bool = False) -> list[float]:
    """Milliseconds of each, of fewer where they are slow; claimed rows run from then on, few beside those that wait."""
    times: list[float] = []
    while (len(times) < calls and sum(times) < TURN_MS) or len(times) < 2:
        began = time.perf_counter()
        claim = _claim(engine, oldest=oldest)
        times.append(1000 * (time.perf_counter() - began))
        assert claim, "no job was due"  # noqa: S101 - an empty queue measures nothing
    return times


def _claim(engine: Engine, *, oldest: bool = False) -> object:
    """As a worker does that has a suspect in hand."""
    return claim_job(
        engine,
        worker="bench",
        models=["demo"],
        lease_seconds=3600,
        job_seconds=3600,
        oldest=oldest,
        suspects=False,
    )


def _explain(engine: Engine) -> str:
    """The names of the indexes in the plans of the very statements that claim."""
    plans: list[str] = []

    def explain(connection: psycopg.Connection, cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked = cursor.connection.cursor()  # type: ignore[attr-defined]
        asked.execute(f"EXPLAIN {statement}", parameters)
        plans.extend(line for (line,) in asked.fetchall())

    event.listen(engine, "before_cursor_execute", explain)
    _claim(engine)
    event.remove(engine, "before_cursor_execute", explain)
    return ", ".join(sorted(set(re.findall(r"Index .*?(?:using|on) (jobs_\w+)", "\n".join(plans))))) or "none"


@contextmanager
def _queue(services: Services, rows: int, place: str) -> Iterator[Engine]:
    """A migrated database of its own with so many queued rows, analyzed as autovacuum would."""
    name = f"claims_{rows}_{(SPREAD, FIRST, CROWD).index(place)}"
    url = services.database_url.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    subprocess.run([sys.executable, "-m", "migrations"], env=os.environ | {"KILN_DATABASE_URL": url}, check=True)
    spec = json.dumps(mix(1, SIZES, steps=20)[0].to_json())
    with psycopg.connect(url, autocommit=True) as connection:
        chosen = {"first": place != SPREAD, "crowd": place == CROWD}
        connection.execute(FILL, {"rows": rows, "owners": OWNERS, "spec": spec} | chosen)
        connection.execute("VACUUM ANALYZE jobs")
    engine = make_engine(url, name="kiln-bench")
    try:
        yield engine
    finally:
        engine.dispose()
