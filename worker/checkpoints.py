"""A job's slots in, their state kept in the bucket now and then, and given back to whoever takes the job up again."""

import time
from typing import Any

import structlog

from common.errors import NotFound, StorageError
from common.jobs.claim import Claim
from common.objects import Objects
from worker.diffusion.checkpoint import UnusableCheckpoint, identify, pack, unpack
from worker.diffusion.slots import Slot, State

log = structlog.get_logger()


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

    def resume(self, slots: list[Slot], recipe: dict[str, Any]) -> None:
        """Put ``slots`` where the last attempt left them, if it left something usable; from now on keep them."""
        self._slots, self._identity, self._kept_at = slots, identify(recipe), time.monotonic()
        try:
            if states := self._load():
                for slot, state in zip(slots, states, strict=True):
                    slot.state = State(state.at, state.past.to(slot.latents.device))
                log.info("job resumed", evaluations=sum(state.at for state in states))
        except (UnusableCheckpoint, StorageError) as error:
            log.warning("checkpoint ignored, the job starts afresh", reason=str(error))

    def keep(self, *, now: bool = False) -> None:
        """Store the slots' state: if it is time, or at once. A store that does not take it costs no more than that."""
        if not self._slots or not (now or time.monotonic() - self._kept_at >= self._seconds):
            return
        self._kept_at = time.monotonic()
        self._may_exist = True
        try:
            data = pack([slot.state for slot in self._slots], self._identity)
            self._objects.put(self._key, data, "application/octet-stream", hurried=True)
        except StorageError:
            log.warning("checkpoint not kept: the object store does not take it")

    def remove(self) -> None:
        """The job has ended: its checkpoints are of no more use."""
        if not self._may_exist:
            return
        try:
            self._objects.delete(self._objects.keys(self._folder))
        except StorageError:
            log.warning("checkpoints of an ended job were left behind")

    def _load(self) -> list[State]:
        """The newest checkpoint's states; [] where there is none."""
        keys = self._objects.keys(self._folder) if self._may_exist else []
        if not keys:
            return []
        try:
            states = unpack(b"".join(self._objects.open(max(keys))), self._identity)
        except NotFound:
            return []
        shapes = [slot.state.past.shape for slot in self._slots]
        if [state.past.shape for state in states] != shapes:
            raise UnusableCheckpoint("it is of another size")
        return states
