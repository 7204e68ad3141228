"""Programs in; their processes, started, watched, and started again when they end by themselves, out.

One round of looking at them all is look(); whoever owns the supervisor calls it a few times a second.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from common.errors import KilnError
from common.local import children
from common.local.children import Child, DataDamaged

State = Literal["starting", "running", "waiting", "damaged"]

# Exit codes of what was supervised, the worst of them; 65 is EX_DATAERR of sysexits.h
NOTHING_ENDED, STARTED_AGAIN, NOT_RUNNING, DAMAGED = 0, 4, 5, 65

# What makes a server say the same though its data is whole
_PASSING = re.compile(
    "no space left|quota exceeded|permission denied|too many open files|cannot allocate", re.IGNORECASE
)
_QUIET_SECONDS = 3600  # after so long each end is worth a line again
_HANGING_SECONDS = 10  # a server that does not let us in by then is asked, by its log, whether its data is damaged


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds to wait before a process is started again: twice as many each time, until it was healthy for a while."""

    first: float = 1
    longest: float = 60
    healthy: float = 30

    def pause(self, times: int) -> float:
        """The wait after it has ended so many times without being healthy in between."""
        return min(self.longest, self.first * 2.0 ** min(times - 1, 30))


PACE = Pace()


@dataclass(frozen=True, slots=True)
class Program:
    """How one process is started, whether it can work, and how it is stopped. The first two may raise DataDamaged.

    Only a server has ``damage``: what its log says of data that it cannot start on; and ``advice`` for that case.
    """

    name: str
    start: Callable[[], Child]
    ready: Callable[[Child], bool]
    stop: Callable[[Child], None] = Child.stop
    seconds: float = 120  # within which it is usually ready
    damage: re.Pattern[str] | None = None
    advice: str = ""


@dataclass(slots=True)
class Process:
    """What became of a program. ``ended`` counts how often it ended by itself, or did not start at all."""

    program: Program
    state: State = "waiting"
    child: Child | None = None
    since: float = field(default_factory=time.time)  # of its state, by the wall clock
    ended: int = 0
    reason: str = ""  # of its last end
    streak: int = 0  # ends since it was healthy
    lately: int = 0  # ends without a quiet hour between two of them
    began: float = 0  # by the supervisor's clock, as the next two
    ended_at: float = float("-inf")
    due: float = 0
    told: bool = False  # whether its last end was
    hopeless: bool = False  # it cannot start as things are: another try soon is for nothing

    @property
    def is_server(self) -> bool:
        return self.program.damage is not None

    @property
    def pid(self) -> int | None:
        return self.child.process.pid if self.child and self.state in ("starting", "running") else None

    def enter(self, state: State) -> None:
        self.state, self.since = state, time.time()


class Supervisor:
    """All processes of one Kiln. ``tell`` gets each line that a person at the terminal should read."""

    def __init__(
        self,
        programs: Sequence[Program],
        tell: Callable[[str], None],
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.processes = [Process(program) for program in programs]
        self._tell, self._pace, self._clock = tell, pace or PACE, clock

    def __getitem__(self, name: str) -> Process:
        return next(process for process in self.processes if process.program.name == name)

    def look(self) -> bool:
        """Start what is due, and see what has ended and what is ready. Whether anything has changed."""
        # Servers that run come first: whoever ends over them must not look as if it could not start at all. What is to
        # be started comes last, in the order given
        order = sorted(
            self.processes, key=lambda each: (each.state == "waiting", bool(each.pid and not each.is_server))
        )
        changes = [self._changed(process) for process in order]
        return any(changes)

    def _changed(self, process: Process) -> bool:
        before = process.state, process.ended
        now, child = self._clock(), process.child
        if process.state == "waiting":
            if now >= process.due:
                self._start(process)
        elif child and process.pid and child.process.poll() is not None:
            self._see_end(process, child)
        elif child and process.state == "starting":
            self._see_start(process, child)
        elif process.state == "running" and now - process.began >= self._pace.healthy:
            process.streak = 0
        return before != (process.state, process.ended)

    def _start(self, process: Process) -> None:
        try:
            process.child = process.program.start()
        except DataDamaged as error:
            self._give_up(process, error.detail)
        except (KilnError, OSError) as error:  # OSError: a full disk, no memory for a fork
            self._wait(process, str(error).partition("\n")[0], hopeless=isinstance(error, KilnError))
        else:
            process.enter("starting")
            process.began = self._clock()

    def _see_start(self, process: Process, child: Child) -> None:
        program, waited = process.program, self._clock() - process.began
        try:
            ready = program.ready(child)
        except DataDamaged as error:
            program.stop(child)
            return self._give_up(process, error.detail)
        except (KilnError, OSError):  # no file or socket left to ask with
            ready = False
        if ready:
            process.enter("running")
            process.began, process.hopeless = self._clock(), False
            if process.told:
                self._tell(f"{program.name} runs again" if process.ended else f"{program.name} runs")
            process.told = False
        elif waited > _HANGING_SECONDS and (damage := _damage(program, child)):
            program.stop(child)
            self._give_up(process, damage)
        elif waited > program.seconds and not process.told:
            process.told = True
            last = "".join(child.last_lines(1)).strip()[:300]
            self._tell(f"{program.name} is not ready after {program.seconds:g} s; it said last: {last}")
        return None

    def _see_end(self, process: Process, child: Child) -> None:
        starting = process.state == "starting"  # later its log may quote what clients sent
        if starting and (damage := _damage(process.program, child)):
            self._give_up(process, damage)
        else:
            failed = starting and child.process.returncode > 0
            self._wait(process, child.how_it_ended(), hopeless=failed and self._stands_alone(process))

    def _stands_alone(self, process: Process) -> bool:
        """Whether every server has been there all the time: it is not their fault that it did not start."""
        servers = [other for other in self.processes if other.is_server]
        there = all(server.state == "running" and server.ended_at < process.began for server in servers)
        return there and not process.is_server

    def _wait(self, process: Process, reason: str, *, hopeless: bool) -> None:
        """Start it again later: when it cannot start at all, after the longest pause."""
        process.ended += 1
        process.streak += 1
        process.reason, process.hopeless = reason, hopeless
        pause = self._pace.longest if hopeless else self._pace.pause(process.streak)
        now = self._clock()
        process.lately = 1 if now - process.ended_at > _QUIET_SECONDS else process.lately + 1
        process.ended_at = now
        process.due = process.ended_at + pause
        process.enter("waiting")
        process.told = process.lately & (process.lately - 1) == 0  # the first, second, fourth, eighth time …
        if process.told:
            name, often = process.program.name, f" ({process.ended} times by now)" if process.ended > 1 else ""
            if hopeless:
                self._tell(f"{name} cannot start{often}: {reason} | tried again every {pause:g} s; the rest goes on")
            else:
                self._tell(f"{name} ended{often}: {reason} | started again in {pause:g} s")

    def _give_up(self, process: Process, damage: str) -> None:
        process.ended += 1
        process.reason, process.hopeless = damage, True
        process.enter("damaged")
        name, advice = process.program.name, process.program.advice
        self._tell(f"{name} is not started again, for its data is damaged: {damage} | {advice}")

    def stop(self) -> None:
        """End every process: Kiln's own first, beside each other, while the servers that they need still run."""
        left = [(each.program, each.child) for each in self.processes if each.child]
        children.stop_all([child for program, child in left if program.damage is None])
        for program, child in reversed(left):
            if program.damage:
                program.stop(child)

    @property
    def outcome(self) -> int:
        """The exit code that tells what happened."""
        if any(process.state == "damaged" for process in self.processes):
            return DAMAGED
        if any(process.ended and process.state != "running" for process in self.processes):
            return NOT_RUNNING
        return STARTED_AGAIN if any(process.ended for process in self.processes) else NOTHING_ENDED

    def status(self) -> dict[str, dict[str, Any]]:
        """By name: state, process id, since when (seconds of the epoch), how often it ended, and why the last time."""
        return {
            process.program.name: {
                "state": process.state,
                "pid": process.pid,
                "since": round(process.since, 3),
                "ended": process.ended,
                "reason": process.reason,
            }
            for process in self.processes
        }


def _damage(program: Program, child: Child) -> str:
    """The line of a server's log that says so, '' where its data is not known to be damaged."""
    lines = child.last_lines(60) if program.damage else []
    if any(_PASSING.search(line) for line in lines):
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if program.damage and program.damage.search(line)), "")
