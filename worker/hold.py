"""One job in a worker's hand: its progress goes to its row and to who listens; a cancel, a loss, a drain come in."""

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from functools import partial
from typing import Any, ParamSpec, TypeVar

import structlog
from sqlalchemy import Engine
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from common.errors import JobCanceled, LeaseLost, NoProgress, OutOfTime, StorageError, Unavailable, WorkerDraining
from common.fault import fault
from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.state import Lane, Stage
from worker.checkpoints import Checkpoints, beside
from worker.diffusion.slots import Slot
from worker.herald import News
from worker.metrics import STAGE_SECONDS
from worker.wishes import Wishes

log = structlog.get_logger()

SAVE_SECONDS = 0.5  # progress is written at most this often; a cancel is looked for at every step
LONGEST_PAUSE = 10  # seconds between two tries at an object store that is away
_arrivals = itertools.count()

P = ParamSpec("P")
T = TypeVar("T")


class Hold:
    """A claim being worked on. The job's thread calls enter() and step(); the heartbeat tells it what it learned."""

    def __init__(
        self,
        engine: Engine,
        claim: Claim,
        wishes: Wishes,
        draining: threading.Event,
        checkpoints: Checkpoints,
        patience: float,
        news: News | None = None,
    ) -> None:
        """``patience``: seconds from now after which the job is given back, to go on later."""
        self.claim = claim
        self.checkpoints = checkpoints
        self.waits_for_store = False
        self.urgency = (claim.lane is Lane.BATCH, -claim.priority, next(_arrivals))
        self.alone = claim.failures > 0
        self.done = self._resumed = 0
        self._engine = engine
        self._wishes = wishes
        self._draining = draining
        self._news = news
        self._slots: list[Slot] = []
        self._lost = threading.Event()
        self._timings: dict[str, float] = {}
        self._unsaved: dict[str, str] = {}
        self.stage: Stage | None = None
        self._entered_at = self._saved_at = time.monotonic()
        self._give_back_at = time.monotonic() + patience

    def enter(self, stage: Stage, texts: Mapping[str, str] | None = None) -> None:
        """Begin a stage: recorded with what is known by now. Raises as step() does."""
        self._close_stage()
        self.stage, self._entered_at = stage, time.monotonic()
        self._unsaved |= texts or {}
        self._look(save=True)
        if self._news:
            self._tell(self._news)
            self._news.entered(stage)
        fault(stage)

    def resume(self, slots: list[Slot], recipe: dict[str, Any]) -> None:
        """Put the pictures where the last attempt left them, once the store answers whether it kept any; from now on
        they are kept now and then. Raises as step() does."""
        self.checkpoints.resume(slots, recipe, self.insisting)
        self._slots = slots
        self.done = self._resumed = sum(slot.state.at for slot in slots)

    def step(self, done: int) -> None:
        """``done`` U-Net evaluations of the job are behind us.

        Raises JobCanceled, WorkerDraining, NotNow, LeaseLost, OutOfTime or NoProgress where the job is to be given up
        now.
        """
        self.done = done
        self.checkpoints.keep()
        due = time.monotonic() - self._saved_at >= SAVE_SECONDS
        if due and self._news:
            self._tell(self._news)
        self._look(save=due)

    def look(self) -> None:
        """No step was taken, for others are more urgent or this one takes long. Raises as step() does."""
        self._look(save=False, waiting=True)

    def insisting(self, ask: Callable[P, T]) -> Callable[P, T]:
        """``ask``, called until the object store answers it: an outage is not the job's fault, and what it has done
        is there. Raises as step() does, and of a drain and a lost lease though the store be silent."""

        def insist(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                answer: T = patience(self._try, partial(ask, *args, **kwargs))
                return answer
            finally:
                self.waits_for_store = False

        patience = Retrying(
            retry=retry_if_exception_type(StorageError),
            wait=wait_random_exponential(max=LONGEST_PAUSE),
            before_sleep=self._note_outage,
            sleep=self._wait,
        )
        return insist

    def lose(self) -> None:
        """The heartbeat found the lease gone."""
        self._lost.set()

    def timings(self) -> dict[str, int]:
        """Milliseconds per stage, as ``<stage>_ms``."""
        self._close_stage()
        return {f"{stage}_ms": round(1000 * seconds) for stage, seconds in self._timings.items()}

    def _tell(self, news: News) -> None:
        if self.done:
            news.progressed(self.done)
            news.developed(self._slots)

    def _note_outage(self, tried: RetryCallState) -> None:
        if not self.waits_for_store:
            log.warning("the job waits for the object store", reason=str(tried.outcome and tried.outcome.exception()))
        self.waits_for_store = True

    def _try(self, ask: Callable[[], T]) -> T:
        answer = beside(ask)
        while not wait([answer], SAVE_SECONDS).done:
            self._stop_if_told()
        return answer.result()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._look(save=False, waiting=True)
            self._draining.wait(min(left, SAVE_SECONDS))
        self._look(save=False, waiting=True)

    def _stop_if_told(self) -> None:
        if self._draining.is_set():
            raise WorkerDraining
        if self._lost.is_set():
            raise LeaseLost

    def _look(self, *, save: bool, waiting: bool = False) -> None:
        self._stop_if_told()
        if time.monotonic() > self._give_back_at:
            raise OutOfTime if waiting or self.done > self._resumed else NoProgress
        try:
            canceled = self._save() if save else self._wishes.heed(self.claim)
        except Unavailable:
            # The lease may well stand: good work goes on, and the last write decides
            self._saved_at = time.monotonic()
            return
        if canceled:
            raise JobCanceled

    def _save(self) -> bool:
        assert self.stage is not None  # noqa: S101 - enter() comes before step()
        with self._wishes.outage.noticed():
            canceled = lease.save(self._engine, self.claim, stage=self.stage, done=self.done, texts=self._unsaved)
        self._unsaved = {}
        self._saved_at = time.monotonic()
        return canceled

    def _close_stage(self) -> None:
        if self.stage is not None:
            self._timings[self.stage] = time.monotonic() - self._entered_at
            STAGE_SECONDS.labels(self.stage).observe(self._timings[self.stage])
