"""Signs of life: extends every held lease, tells the holds what it learns, and keeps the worker's entry fresh."""

import os
import threading
from typing import Any

import structlog

from common.errors import Unavailable
from common.jobs.lease import extend_leases
from common.jobs.workers import WorkerState, record_worker, remove_worker
from worker.diffusion.device import Device
from worker.workshop import Workshop

log = structlog.get_logger()

STALLED_EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h: the device is stuck, or lost
LEAVE_SECONDS = 5.0  # that a process without a device goes on, to give its jobs back


class Heartbeat:
    """A thread that beats until it is stopped. A device that is stuck or lost ends the process instead."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._news = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._state: WorkerState = "starting"
        self._detail = ""
        self._pace: float | None = None
        self._counted = (0, 0.0)
        workshop.breaker.on_change = self._news.set
        workshop.device.guard.on_loss = self.leave

    def start(self) -> None:
        self._thread.start()

    def say(self, state: WorkerState, detail: str = "") -> None:
        """Change what the worker's entry says, at once. From a signal handler too: the thread does the work."""
        self._state, self._detail = state, detail
        if self._thread.is_alive():
            self._news.set()
        else:
            self._record()

    def stop(self) -> None:
        """Stop beating and strike the worker's entry out."""
        self._stopped = True
        self._news.set()
        self._thread.join(timeout=5)
        try:
            remove_worker(self._workshop.engine, self._workshop.id)
        except Unavailable:
            log.warning("worker entry left behind: the database does not answer")

    def leave(self) -> None:
        """End the process, as its device is lost: another one may find it mended. Returns never.

        Jobs in hand go back uncharged, as far as that can be said within LEAVE_SECONDS; then leases say it.
        """
        threading.Timer(LEAVE_SECONDS, os._exit, (STALLED_EXIT_CODE,)).start()
        self._state, self._detail = "failed", f"the device is lost: {self._workshop.device.guard.lost}"
        self._workshop.abandon()
        self._record()
        log.error("the worker ends, for its device is lost", code=STALLED_EXIT_CODE)
        os._exit(STALLED_EXIT_CODE)

    def _beat_on(self) -> None:
        try:
            while not self._stopped:
                self._news.wait(self._workshop.settings.heartbeat_seconds)
                self._news.clear()
                self._end_if_stalled()
                try:
                    self._extend()
                    self._record()
                except Exception:  # a thread that ended in silence would take every lease with it
                    log.exception("no sign of life given")
        finally:
            if not self._stopped:
                os._exit(STALLED_EXIT_CODE)  # nobody else would extend the leases

    def _end_if_stalled(self) -> None:
        """A timer alone would keep a dead or wedged device's leases forever."""
        if not self._workshop.device.is_alive() and not self._stopped:
            self.leave()
        busy = self._workshop.device.busy_seconds()
        if busy > self._workshop.settings.tick_timeout:
            log.error("the device makes no progress: the worker ends, its jobs return", seconds=round(busy))
            os._exit(STALLED_EXIT_CODE)

    def _extend(self) -> None:
        holds = {hold.claim.token: hold for hold in list(self._workshop.holds)}
        if not holds:
            return
        try:
            standing = extend_leases(self._workshop.engine, list(holds), self._workshop.settings.lease_seconds)
        except Unavailable:
            log.warning("leases not extended: the database does not answer")
            return
        for token in holds.keys() - standing.keys():
            holds[token].lose()

    def _record(self) -> None:
        state, detail = self._state, self._detail
        if state == "ready" and (reason := self._workshop.obstacle):
            state, detail = "unready", reason
        try:
            record_worker(
                self._workshop.engine,
                self._workshop.id,
                state=state,
                detail=detail,
                models=self._workshop.settings.served,
                device=self._workshop.device_name,
                seats=self._workshop.seats,
                evaluations_per_second=self._measure(),
                figures=_read_figures(self._workshop.device),
                recipes={name: model.recipe for name, model in list(self._workshop.models.items())},
            )
        except Unavailable:
            log.warning("worker entry not renewed: the database does not answer")

    def _measure(self) -> float | None:
        """U-Net evaluations per second that the device was busy, over the time since the last measurement."""
        figures = self._workshop.device.figures
        evaluations, busy = figures.evaluations, figures.busy_seconds
        (counted, timed), self._counted = self._counted, (evaluations, busy)
        if evaluations > counted and busy > timed:
            self._pace = (evaluations - counted) / (busy - timed)
        return self._pace


def _read_figures(device: Device) -> dict[str, Any]:
    """How wide the engine is, and what takes part in it now. What it has done so far: see metrics.py."""
    return {
        "engine_mode": "fast" if device.width.floats else "exact",
        "slots": device.width.slots,
        "slots_used": device.slots_used,
        "pictures": device.pictures(),
    }
