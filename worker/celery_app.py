"""The worker process: settings, weights loaded once, device thread, heartbeat; then Celery's loop until SIGTERM."""

import logging
import os
import sys
import warnings
from functools import partial
from typing import Any

import structlog
from celery.apps import worker as celery_worker
from celery.bootsteps import StartStopStep
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_shutting_down
from prometheus_client import REGISTRY

from common.errors import DeviceLost, ModelNotLoadable
from common.queue import make_celery, queue_name
from common.settings import Settings, read_settings
from common.telemetry import log_as, serve_metrics
from worker.heartbeat import Heartbeat
from worker.lookout import Lookout
from worker.metrics import DeviceCollector
from worker.tasks import register
from worker.workshop import Workshop, load_models, open_workshop

log = structlog.get_logger()


def main() -> None:
    """Work until told to stop. Exit code 1 with one line where a model cannot be loaded, 70 where the device fails."""
    settings = read_settings(Settings)
    log_as(settings)
    workshop = open_workshop(settings)
    log_as(settings, worker=workshop.id)  # not bound to the context, which other threads do not inherit
    REGISTRY.register(DeviceCollector(workshop.device, workshop.device_name))
    serve_metrics(settings)
    log.info("worker starts", models=settings.served, device=workshop.device_name)  # to load them may take minutes
    heartbeat = Heartbeat(workshop)
    heartbeat.say("starting")
    try:
        load_models(workshop)
    except ModelNotLoadable as error:
        # The entry stays until it is as old as a lease, so that readiness can say why
        heartbeat.say("failed", error.detail)
        log.error("worker cannot start", reason=error.detail)
        sys.exit(1)
    except DeviceLost:
        heartbeat.leave()
    heartbeat.start()
    try:
        _serve(workshop, heartbeat)
    finally:
        heartbeat.stop()
        workshop.device.close()
    logging.shutdown()
    os._exit(0)  # all is put away; the interpreter would take seconds to take torch and its like apart


def _serve(workshop: Workshop, heartbeat: Heartbeat) -> None:
    """Celery's loop: one thread per seat, nothing prefetched, one queue per model."""
    app = make_celery(workshop.settings.broker_url.get_secret_value())
    register(app, workshop)

    class Seats(StartStopStep):  # type: ignore[misc]
        """Ready as soon as there are threads to work in: jobs do not wait for the broker, which may be away."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            Lookout(workshop, partial(worker.pool.apply_async, callback=lambda _: None)).start()
            log.info("worker ready", models=list(workshop.models), device=workshop.device_name)
            heartbeat.say("ready")

    def drain(**_: Any) -> None:
        workshop.draining.set()
        heartbeat.say("stopping")

    setup_logging.connect(_keep_our_logging)
    celery_worker.safe_say = lambda *_: None  # what it prints past every logger is no line of ours
    app.steps["worker"].add(Seats)
    worker_shutting_down.connect(drain, weak=False)
    warnings.simplefilter("ignore", SecurityWarning)  # against root, for the sake of pickle, which we do not accept
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={workshop.seats}",
            f"--queues={','.join(queue_name(model) for model in workshop.models)}",
            f"--hostname={workshop.id}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


def _keep_our_logging(**_: Any) -> None:
    """Celery leaves logging alone where a receiver is connected."""
