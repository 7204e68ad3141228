"""What is told of jobs while they run: messages in, published in Redis out, by a thread that nobody waits for.

A broker that is away costs nothing but the messages: jobs and device never wait for it.
"""

import json
import threading
import time
from collections import deque
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from common.ids import show_id
from common.jobs.claim import Claim
from common.jobs.state import Lane, Stage
from common.live import Told, channel
from worker.diffusion.slots import Slot
from worker.preview import Previews

log = structlog.get_logger()

MOST_WAITING = 256  # messages; beyond it the oldest go
PATIENCE_SECONDS = 1.0  # for the broker
PAUSE_SECONDS = 5.0  # between two tries while it is away


class Herald:
    """Publishes what it is told to, in its order, and learns who listens. One for each worker process."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._redis = redis.Redis.from_url(
            broker_url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._waiting: deque[tuple[str, str]] = deque(maxlen=MOST_WAITING)
        self._news = threading.Event()
        self._heard: dict[str, bool] = {}  # by owner, whether somebody heard the latest
        self._thread = threading.Thread(target=self._serve, name="herald", daemon=True)
        self._thread.start()

    def tell(self, owner: str, event: Told, data: dict[str, Any]) -> None:
        """Send it to who listens for ``owner``. Returns at once."""
        self._waiting.append((owner, json.dumps({"event": event, "data": data})))
        self._news.set()

    def listens(self, owner: str) -> bool:
        """Whether anybody heard what was last told of the owner's jobs."""
        return self._heard.get(owner, False)

    def _serve(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            try:
                while self._waiting:
                    owner, message = self._waiting.popleft()
                    self._heard[owner] = bool(self._redis.publish(channel(self._url, owner), message))
            except (RedisError, OSError) as error:
                log.warning("progress is not told: the broker is away", reason=type(error).__name__)
                self._pause()
            except Exception:  # a thread that ended in silence would tell nothing more
                log.exception("progress is not told")
                self._pause()

    def _pause(self) -> None:
        self._heard.clear()
        time.sleep(PAUSE_SECONDS)
        self._waiting.clear()


class News:
    """What is told of one job. Called by its own thread; raises nothing."""

    def __init__(self, herald: Herald, previews: Previews, claim: Claim) -> None:
        self._herald = herald
        self._previews = previews
        self._claim = claim

    def entered(self, stage: Stage) -> None:
        self._tell("stage", stage=stage.value)

    def progressed(self, done: int) -> None:
        """So many of its U-Net evaluations are behind."""
        total = self._claim.spec.evaluations
        percent = round(100 * done / max(1, total), 1)
        self._tell("progress", progress={"done": done, "total": total, "percent": percent})

    def developed(self, slots: list[Slot]) -> None:
        """The picture that is furthest on its way, to a person who watches: nobody looks at a thousand of a batch's."""
        under_way = [slot for slot in slots if 0 < slot.state.at < len(slot.course)]
        if not under_way or self._claim.lane is Lane.BATCH or not self._herald.listens(self._claim.owner):
            return
        slot = max(under_way, key=lambda slot: slot.state.at)
        try:
            image = self._previews.show(slot)
        except Exception:  # a picture that cannot be shown early can still be painted
            log.exception("no preview was made")
            return
        self._tell("preview", index=slots.index(slot), image=image)

    def settled(self) -> None:
        """How the job ended, or was given back, stands in the log."""
        self._tell("settled")

    def _tell(self, event: Told, **data: Any) -> None:
        claim = self._claim
        names = {
            "job_id": show_id("job", claim.job_id),
            "batch_id": show_id("batch", claim.batch_id) if claim.batch_id else None,
        }
        self._herald.tell(claim.owner, event, names | data)
