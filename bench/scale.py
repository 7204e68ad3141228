"""What the API asks the database for while people look, with a thousand jobs in it and with a million."""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Engine, select

from api.report import stream_csv
from bench.contract import SIZES, mix
from bench.result import Result, at_most, percentile, ratios, told
from common.db import make_engine, reading
from common.jobs.gallery import Filter, list_images
from common.jobs.read import Job, list_ended, list_jobs
from common.jobs.state import Status
from common.jobs.tables import batches, jobs
from common.jobs.tally import get_batch, list_batches
from common.local.services import Services, running_services

FEW, MANY = 1_000, (100_000, 1_000_000)
BATCH = 1_000  # jobs
OWNER = "owner"
PAGE = 50
LIMIT = 1.5
TURN_MS = 2_000

# All of one owner, in batches: the one posted last half done, of the others one job in eight failed, so that there is
# a page of them in the smallest too. Each job that succeeded has one picture. Version 7's order of ids is what pages
# go by.
FILL = """
SET session_replication_role = replica;
INSERT INTO batches (id, owner, name, metadata, models, lane, fingerprint)
SELECT lpad(to_hex(b), 32, '0')::uuid, 'owner', 'night', '{{}}', '{{demo}}', 'batch', 'fingerprint'
FROM generate_series(0, {rows} / {batch} - 1) AS b;
INSERT INTO jobs (id, owner, spec, spec_digest, model, metadata, batch_id, fingerprint, lane, priority, turn,
                  published_at, progress_total, progress_done, status, attempt, started_at, finished_at, error)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'owner', {spec}::jsonb, 'digest', 'demo', '{{}}',
       lpad(to_hex(n / {batch}), 32, '0')::uuid, 'fingerprint', 'batch', 0, n, now(), 20,
       CASE WHEN status = 'queued' THEN 0 ELSE 20 END, status, CASE WHEN status = 'queued' THEN 0 ELSE 1 END,
       CASE WHEN status <> 'queued' THEN now() END, CASE WHEN status <> 'queued' THEN now() END,
       CASE WHEN status = 'failed' THEN '{{"code": "internal"}}'::jsonb END
FROM (SELECT n, CASE WHEN n >= {rows} - {batch} / 2 THEN 'queued' WHEN n % 8 = 7 THEN 'failed'
                     ELSE 'succeeded' END AS status
      FROM generate_series(0, {rows} - 1) AS n) AS made;
INSERT INTO images (job_id, index, id, seed, width, height, clip_score, kept, key, thumbnail_key, content_type, bytes,
                    sha256)
SELECT id, 0, gen_random_uuid(), turn, 256, 256, 20 + 10 * random(), true, 'key' || turn, 'thumbnail' || turn,
       'image/png', 100000, repeat('0', 64)
FROM jobs WHERE status = 'succeeded';
"""


def measure(home: Path, quick: bool) -> list[Result]:
    rounds, calls, many = (2, 5, (2_000, 20_000)) if quick else (5, 40, MANY)
    with running_services(home) as services, ExitStack() as stack:
        filled = {rows: stack.enter_context(_filled(services, rows)) for rows in (FEW, *many)}
        asked = {rows: _questions(engine) for rows, engine in filled.items()}
        times: dict[tuple[str, int], list[float]] = defaultdict(list)
        for _ in range(rounds):
            for name in asked[FEW]:
                for rows, questions in asked.items():
                    times[name, rows].append(_time(questions[name], calls))
    return [result for name in asked[FEW] for result in _tell(name, many, times)]


def _tell(name: str, many: tuple[int, ...], times: Mapping[tuple[str, int], list[float]]) -> list[Result]:
    few = times[name, FEW]
    return [told(f"{name}, {FEW:,} jobs", few, " ms")] + [
        at_most(f"{name}, {rows:,} jobs ÷ {FEW:,}", ratios(times[name, rows], few), LIMIT) for rows in many
    ]


def _questions(engine: Engine) -> dict[str, Callable[[], object]]:
    """What pages and the command line ask for, by name."""
    newest, middle = _ids(engine)
    ask = partial(list_jobs, engine, OWNER, limit=PAGE)
    return {
        "list of jobs, first page": ask,
        "list of jobs, a page from the middle": partial(ask, after=middle),
        "list of failed jobs": partial(ask, status=Status.FAILED),
        "list of the jobs of a batch": partial(ask, batch_id=newest),
        "list of pictures, newest first": partial(
            list_images, engine, OWNER, Filter(), best_first=False, after=None, limit=PAGE
        ),
        "list of pictures, best first": partial(
            list_images, engine, OWNER, Filter(), best_first=True, after=None, limit=PAGE
        ),
        f"list of batches of {BATCH:,}": partial(list_batches, engine, OWNER, after=None, limit=1, alive_seconds=60),
        f"status of a batch of {BATCH:,}": partial(get_batch, engine, OWNER, newest, alive_seconds=60),
        f"report of a batch of {BATCH:,}, as CSV": partial(_report, engine, newest),
    }


def _report(engine: Engine, batch_id: UUID) -> int:
    """Read to its end; how many lines."""

    def ended() -> Iterator[Job]:
        after: UUID | None = None
        while page := list_ended(engine, OWNER, batch_id, after=after, limit=100):
            yield from page
            after = page[-1].id

    return sum(1 for _ in stream_csv(ended))


def _ids(engine: Engine) -> tuple[UUID, UUID]:
    """Of the newest batch, and of the job in the middle."""
    with reading(engine) as connection:
        newest = connection.execute(select(batches.c.id).order_by(batches.c.id.desc()).limit(1)).scalar_one()
        rows = connection.execute(select(jobs.c.turn).order_by(jobs.c.id.desc()).limit(1)).scalar_one()
    return newest, UUID(int=rows // 2)


def _time(ask: Callable[[], object], calls: int) -> float:
    """The median call, in milliseconds; fewer calls where they are slow."""
    times: list[float] = []
    while (len(times) < calls and sum(times) < TURN_MS) or len(times) < 3:
        began = time.perf_counter()
        ask()
        times.append(1000 * (time.perf_counter() - began))
    return percentile(times, 50)


@contextmanager
def _filled(services: Services, rows: int) -> Iterator[Engine]:
    """A migrated database of its own with so many jobs, analyzed as autovacuum would."""
    name = f"scale_{rows}"
    url = services.database_url.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    subprocess.run([sys.executable, "-m", "migrations"], env=os.environ | {"KILN_DATABASE_URL": url}, check=True)
    spec = sql.Literal(json.dumps(mix(1, SIZES, steps=20)[0].to_json()))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(FILL).format(rows=rows, batch=BATCH, spec=spec))
        connection.execute("VACUUM ANALYZE")
    engine = make_engine(url, name="kiln-bench")
    try:
        yield engine
    finally:
        engine.dispose()
