"""``python -m worker.sweeper``: every few seconds returns dead leases, expires, and rings for jobs nobody heard of.

A small process of its own, without torch. Two are safe: a lock in the database lets one sweep at a time. What
nobody waits for is done beside it: see chores.py; and webhooks are delivered: deliveries.py.
"""

import signal
import threading
import time
from dataclasses import dataclass, field
from functools import partial

import structlog
from kombu.exceptions import OperationalError
from prometheus_client import Counter
from sqlalchemy import Engine

from common.db import make_engine
from common.errors import Unavailable
from common.jobs.steer import steer_on
from common.jobs.sweep import only_sweeper, round_parts, take_unpublished
from common.objects import Objects
from common.queue import Doorbell
from common.reach import Reach
from common.settings import Settings, read_settings
from common.telemetry import log_as, serve_metrics
from worker.chores import do_chores
from worker.deliveries import GRACE_SECONDS, deliver

log = structlog.get_logger()

SWEEPS = Counter("kiln_sweeper_sweeps", "Rounds of this sweeper, those left to another one not counted")
RETURNED = Counter("kiln_sweeper_returned_jobs", "Jobs taken back from workers that died or went silent")
EXPIRED = Counter("kiln_sweeper_expired_jobs", "Jobs whose deadline passed before they began")

TOLD = ("returned", "excused", "expired", "told", "steered")
MAX_WAITING = 64  # messages of one model: enough to wake every seat, whatever the backlog


def main() -> None:
    settings = read_settings(Settings)
    log_as(settings)
    serve_metrics(settings)
    engine = make_engine(settings.database_url.get_secret_value(), name="kiln-sweeper", pool_size=3)
    doorbell = Doorbell(settings.broker_url.get_secret_value())
    objects = Objects.from_settings(settings)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    threading.Thread(target=do_chores, args=(settings, engine, objects, stop), name="chores", daemon=True).start()
    courier = threading.Thread(
        target=deliver, args=(engine, Reach(settings.webhook_allow), stop), name="deliveries", daemon=True
    )
    courier.start()
    log.info("sweeper ready")
    absence = Absence(settings.lease_seconds)
    while not stop.wait(settings.sweep_seconds):
        try:
            sweep(settings, engine, doorbell, judging=absence.is_over())
            absence.note_round()
        except Unavailable:
            log.warning("not swept: the database does not answer")
    courier.join(timeout=2 * GRACE_SECONDS)


@dataclass(slots=True)
class Absence:
    """Whether leases may be judged. For a lease after a time without a round of this sweeper they tell nothing of their
    workers: those may have been cut off from the database as it was, or suspended with this machine.

    By the wall's clock, which goes on while a machine is suspended.
    """

    lease_seconds: float
    round_at: float = field(default_factory=time.time)
    judge_from: float = 0.0

    def is_over(self) -> bool:
        now = time.time()
        if now - self.round_at > self.lease_seconds:
            self.judge_from = now + self.lease_seconds
        return now >= self.judge_from

    def note_round(self) -> None:
        self.round_at = time.time()


def sweep(settings: Settings, engine: Engine, doorbell: Doorbell, *, judging: bool = True) -> None:
    """One round, unless another sweeper is at it: a part that fails costs the others nothing. Raises Unavailable.

    Not ``judging``, it takes no lease for dead.
    """
    parts = round_parts(engine, lease_seconds=settings.lease_seconds, max_failures=settings.max_failures)
    if not judging:
        del parts["returned"]
    parts |= {f"rung {model}": partial(ring_for_waiting, engine, doorbell, model) for model in settings.registry}
    parts["steered"] = partial(steer_on, engine)
    done: dict[str, int] = {}
    with only_sweeper(engine) as held:
        for name, part in parts.items():
            if not held():
                return
            try:
                done[name] = part()
            except Unavailable:
                log.warning("not swept: the database does not answer", part=name)
            except Exception:  # tried again in the next round
                log.exception("not swept", part=name)
    SWEEPS.inc()
    RETURNED.inc(done.get("returned", 0))
    EXPIRED.inc(done.get("expired", 0))
    if told := {name: done[name] for name in TOLD if done.get(name)}:
        log.info("swept", **told)


def ring_for_waiting(engine: Engine, doorbell: Doorbell, model: str) -> int:
    """Send messages for jobs of ``model`` that are due and unheard of; returns how many, 0 with the broker away."""
    try:
        room = MAX_WAITING - doorbell.waiting(model)
    except (OperationalError, OSError):
        log.warning("not rung: the broker does not answer", model=model)
        return 0
    unheard = take_unpublished(engine, model, room) if room > 0 else 0
    return sum(doorbell.ring(model) for _ in range(unheard))


if __name__ == "__main__":
    main()
