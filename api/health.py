"""Is the process alive, can it do its work, and how does it do: /healthz, /readyz, /metrics."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from typing import Any, get_args

import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.access import Requires
from api.kiln import Kiln, KilnDep
from common.db import check_database
from common.errors import KilnError
from common.jobs.keys import Scope
from common.jobs.outlook import depth
from common.jobs.workers import Worker, WorkerState, list_workers

router = APIRouter(tags=["health"])
log = structlog.get_logger()

CHECK_SECONDS = 1.8  # below the two seconds within which every answer is due


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "the service that failed is named"}})
def readyz(kiln: KilnDep) -> JSONResponse:
    """Database, broker and bucket, one by one. Workers are told of, and are not needed to accept jobs."""
    checks: dict[str, Callable[[], None]] = {
        "database": lambda: check_database(kiln.engine),
        "broker": kiln.doorbell.check,
        "bucket": kiln.objects.check,
    }
    threads = ThreadPoolExecutor(max_workers=len(checks))
    started = {name: threads.submit(check) for name, check in checks.items()}
    results: dict[str, dict[str, Any]] = {}
    for name, check in started.items():
        try:
            check.result(timeout=CHECK_SECONDS)
            results[name] = {"ok": True}
        except (KilnError, TooLate, Exception) as error:
            log.warning("not ready", check=name, reason=type(error).__name__)
            results[name] = {"ok": False, "detail": f"the {name} does not answer"}
    threads.shutdown(wait=False)
    ready = all(result["ok"] for result in results.values())
    workers = _tell_workers(_live_workers(kiln)) if results["database"]["ok"] else {}
    body = {"status": "ok" if ready else "unavailable", "checks": results, "workers": workers}
    return JSONResponse(body, 200 if ready else 503)


@router.get("/metrics", dependencies=[Depends(Requires(Scope.ADMIN))], response_class=PlainTextResponse)
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
