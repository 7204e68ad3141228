"""A message in: permission to work. Claims what is due, one job after the other, until nothing is."""

from collections.abc import Callable

import structlog
from celery import Celery

from common.errors import Unavailable
from common.fault import fault
from common.ids import show_id
from common.queue import TASK
from worker.metrics import CLAIMS
from worker.run import run
from worker.workshop import Workshop

log = structlog.get_logger()


def register(app: Celery, workshop: Workshop) -> None:
    """Teach ``app`` the one task there is."""

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def generate() -> None:
        work(workshop)


def work(workshop: Workshop, on_claim: Callable[[], None] = lambda: None) -> None:
    """Do one job after the other until none is due, calling ``on_claim`` as each is claimed. Raises nothing."""
    try:
        while claim := workshop.claim():
            on_claim()
            CLAIMS.labels(claim.lane).inc()
            fault("claimed")
            with structlog.contextvars.bound_contextvars(
                job=show_id("job", claim.job_id), attempt=claim.attempt, prompt=claim.spec.prompt
            ):
                log.info("job started", model=claim.spec.model, evaluations=claim.spec.evaluations)
                run(claim, workshop)
    except Unavailable:
        log.warning("nothing claimed: the database does not answer; a free seat looks again soon")
