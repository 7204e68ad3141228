"""A job's slots in, their state kept in the bucket now and then, and given back to whoever takes the job up again."""

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from common.errors import NotFound, StorageError
from common.jobs.claim import Claim
from common.objects import Objects
from worker.diffusion.checkpoint import UnusableCheckpoint, identify, pack, unpack
from worker.diffusion.slots import Slot, State

log = structlog.get_logger()

PARK_SECONDS = 8.0  # for the last checkpoint: `kiln up` waits 15 for a worker that is to stop, containers 60
_PAUSE = 0.5

T = TypeVar("T")
Load = Callable[[list[Slot], str], list[State]]


class Checkpoints:
    """Those of one attempt. Each attempt has a key of its own: a worker that lost its lease overwrites nothing."""

    def __init__(self, objects: Objects, claim: Claim, seconds: float) -> None:
        self._objects = objects
        self._folder = f"checkpoints/{claim.job_id}/"
        self._key = f"{self._folder}{claim.attempt:06}.safetensors"
        self._seconds = seconds
        self._may_exist = claim.attempt > 1  # an earlier attempt may have left some
        self._slots: list[Slot] = []
        self._identity = ""
        self._kept_at = time.monotonic()
        self._kept = 0  # evaluations

    def resume(
        self, slots: list[Slot], recipe: dict[str, Any], insisting: Callable[[Load], Load] = lambda load: load
    ) -> None:
        """Put ``slots`` where an attempt before left them, if one left something usable; from now on keep them.

        ``insisting`` makes of what asks the store something that asks until it answers. Raises what that raises: then
        nothing is kept, for what is there may be further than ``slots`` are.
        """
        identity = identify(recipe)
        states = insisting(self._load)(slots, identity)
        for slot, state in zip(slots, states, strict=False):
            slot.state = State(state.at, state.past.to(slot.latents.device))
        if states:
            log.info("job resumed", evaluations=sum(state.at for state in states))
        self._slots, self._identity, self._kept_at = slots, identity, time.monotonic()
        self._kept = sum(slot.state.at for slot in slots)

    def keep(self, *, now: bool = False) -> None:
        """Store the slots' state, where it has changed: if it is time, or at once.

        A store that does not take it costs two seconds; ``now``, as the job is given back, PARK_SECONDS. What was kept
        before stays.
        """
        states = [slot.state for slot in self._slots]
        done = sum(state.at for state in states)
        if done == self._kept or not (now or time.monotonic() - self._kept_at >= self._seconds):
            return
        self._kept_at = time.monotonic()
        self._may_exist = True
        put = partial(self._objects.put, self._key, pack(states, self._identity), "application/octet-stream")
        try:
            if now:
                beside(partial(_until_it_is_in, put)).result(PARK_SECONDS)
            else:
                put(hurried=True)
        except (StorageError, TimeoutError):
            log.warning("checkpoint not kept: the object store does not take it")
        else:
            self._kept = done

    def remove(self) -> None:
        """The job has ended: its checkpoints are of no more use."""
        if not self._may_exist:
            return
        try:
            self._objects.delete(self._objects.keys(self._folder))
        except StorageError:
            log.warning("checkpoints of an ended job were left behind")

    def _load(self, slots: list[Slot], identity: str) -> list[State]:
        """The states of the newest checkpoint that is usable; [] where there is none. Raises StorageError: who is not
        answered knows of none, and there may be one."""
        keys = [entry.key for entry in self._objects.entries(self._folder)] if self._may_exist else []
        shapes = [slot.state.past.shape for slot in slots]
        for key in sorted(keys, reverse=True):
            try:
                states = unpack(b"".join(self._objects.open(key)), identity)
                if [state.past.shape for state in states] != shapes:
                    raise UnusableCheckpoint("it is of another size")
            except (UnusableCheckpoint, NotFound) as error:
                log.warning("checkpoint ignored", key=key, reason=str(error))
            else:
                return states
        return []


def beside(call: Callable[[], T]) -> "Future[T]":
    """``call``, begun in a thread of its own: whoever waits for it may look up meanwhile, or stop waiting."""
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def do() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=do, name="store", daemon=True).start()
    return future


def _until_it_is_in(put: Callable[[], None]) -> None:
    again = retry_if_exception_type(StorageError)
    Retrying(retry=again, wait=wait_fixed(_PAUSE), stop=stop_after_delay(PARK_SECONDS), reraise=True)(put)
