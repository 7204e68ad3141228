"""Is the process alive, can it do its work, and how does it do: /healthz, /readyz, /metrics."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, get_args

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.access import Requires, may_read
from api.kiln import Kiln, KilnDep, reads_many
from api.pools import renew
from common.db import check_database
from common.errors import Unavailable
from common.jobs.keys import Scope
from common.jobs.outlook import depth
from common.jobs.workers import Worker, WorkerState, list_workers

router = APIRouter(tags=["health"])
log = structlog.get_logger()

CHECK_SECONDS = 1.3  # below the two seconds within which every answer is due


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "the service that failed is named"}})
async def readyz(request: Request, kiln: KilnDep) -> JSONResponse:
    """Database, broker and bucket, one by one. Workers are told of, and are not needed to accept jobs.

    What workers say that could not start is for those who may read.
    """
    found, knows_all = await asyncio.gather(kiln.readiness.get(partial(_look, kiln)), may_read(request))
    checks, workers = found
    if not knows_all:
        workers = {name: told for name, told in workers.items() if name != "failed"}
    ready = all(check["ok"] for check in checks.values())
    body = {"status": "ok" if ready else "unavailable", "checks": checks, "workers": workers}
    return JSONResponse(body, 200 if ready else 503)


async def _look(kiln: Kiln) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """How the services are, and the workers."""
    renew()
    started = {
        "database": kiln.pool.run(check_database, kiln.engine),
        "broker": kiln.limiter.check(),
        "bucket": kiln.pictures.check(),
    }
    results = await asyncio.gather(*(_check(name, check) for name, check in started.items()))
    checks = dict(zip(started, results, strict=True))
    workers: dict[str, Any] = {}
    if checks["database"]["ok"]:
        with suppress(Unavailable):
            workers = _tell_workers(await kiln.pool.run(_live_workers, kiln))
    return checks, workers


async def _check(name: str, check: Awaitable[object]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except Exception as error:  # whatever it is, the service is not ready
        log.warning("not ready", check=name, reason=type(error).__name__)
        return {"ok": False, "detail": f"the {name} does not answer"}
    return {"ok": True}


@router.get("/metrics", dependencies=[Depends(Requires(Scope.ADMIN))], response_class=PlainTextResponse)
@reads_many
def metrics(kiln: KilnDep) -> Response:
    """Prometheus metrics: this process's, and the queue as the database has it now. Workers tell their own."""
    queue = CollectorRegistry()
    queue.register(_QueueCollector(kiln))
    return Response(generate_latest(REGISTRY) + generate_latest(queue), media_type=CONTENT_TYPE_LATEST)


class _QueueCollector(Collector):
    """Gauges read from the database at each scrape."""

    def __init__(self, kiln: Kiln) -> None:
        self._kiln = kiln

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("kiln_jobs", "Jobs that wait or run", labels=["lane", "status"])
        oldest = GaugeMetricFamily("kiln_oldest_wait_seconds", "How long the oldest due job waits", labels=["lane"])
        workers = GaugeMetricFamily("kiln_workers", "Live workers", labels=["state"])
        for lane, now in depth(self._kiln.engine).items():
            jobs.add_metric([lane, "queued"], now.queued)
            jobs.add_metric([lane, "running"], now.running)
            oldest.add_metric([lane], now.oldest_seconds)
        for state, count in _tell_workers(_live_workers(self._kiln))["states"].items():
            workers.add_metric([state], count)
        yield from (jobs, oldest, workers)


def _live_workers(kiln: Kiln) -> list[Worker]:
    return list_workers(kiln.engine, alive_seconds=kiln.settings.lease_seconds)


def _tell_workers(live: list[Worker]) -> dict[str, Any]:
    """How many workers are in each state, and what those say that could not start, or claim nothing for a reason."""
    states = dict.fromkeys(get_args(WorkerState), 0)
    for worker in live:
        states[worker.state] += 1
    return {"states": states, "failed": [worker.detail for worker in live if worker.state in ("unready", "failed")]}
