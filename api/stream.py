"""What one client is still to be sent: frames in, frames out, and never more of them than a slow client may cost."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from api.frames import Frame
from common.jobs.log import Watch

MOST_CHANGES = 500  # that wait; a client that is slower reads them from the log instead
MOST_NEWS = 64


class Stream:
    """One open stream. The hub calls offer() and show(); who serves the client calls begin_reading() and take()."""

    def __init__(self, watch: Watch, *, news: bool = True) -> None:
        self.watch = watch
        self._wants_news = news
        self.position = 0  # the id of the last change that was sent, or is not to be
        self.behind = True  # what is to be sent stands in the log, and does not wait here
        self.closed = False
        self._changes: deque[Sequence[Frame]] = deque()
        self._news: dict[tuple[UUID, str], Frame] = {}  # of each job and kind the newest: the others are thinned out
        self._woken = asyncio.Event()

    def offer(self, frames: Sequence[Frame] | None) -> None:
        """A change of state, whose last frame has the id. None, or one too many: the client has to read the log."""
        if frames is None or len(self._changes) == MOST_CHANGES:
            self.behind = True
            self._changes.clear()
        elif not self.behind:
            self._changes.append(frames)
            for event in ("stage", "progress", "preview"):  # what is older than the change
                self._news.pop((frames[-1].job_id, event), None)
        self._woken.set()

    def show(self, frame: Frame) -> None:
        """What a worker told."""
        if not self._wants_news:
            return
        key = (frame.job_id, frame.event)
        if key in self._news or len(self._news) < MOST_NEWS:
            self._news[key] = frame
        self._woken.set()

    def close(self) -> None:
        self.closed = True
        self._woken.set()

    def begin_reading(self) -> None:
        """From now on changes wait here again: those before now are to be read from the log."""
        self.behind = False

    def pass_on(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """The frames of a change, if they were not sent before."""
        last = frames[-1].id or 0
        if last <= self.position:
            return ()
        self.position = last
        return frames

    async def take(self, seconds: float) -> list[Frame]:
        """What waits, as soon as there is something; [] when the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()
        changes, news = list(self._changes), list(self._news.values())
        self._changes.clear()
        self._news.clear()
        return [frame for each in changes for frame in self.pass_on(each)] + news
