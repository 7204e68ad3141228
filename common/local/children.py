"""Child processes: a command in, a running process that is known by name, logged, awaited and ended by its id out.

Every child is written down in ``children.json`` of the home folder with its id and start time, so that the next
start can end what a killed parent left behind, and nothing else.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.errors import KilnError

STOP_SECONDS = 15
_TAIL_BYTES = 1 << 16
_TELLING = re.compile(r"error|fatal|panic|cannot|failed|exception|terminate called", re.IGNORECASE)


class LocalServiceError(KilnError):
    """A local service or process did not start, or ended by itself."""

    code = "local_service_failed"


class DataDamaged(LocalServiceError):
    """A server's data is damaged or gone. It must not be started on what is left."""

    code = "data_damaged"


@dataclass(frozen=True, slots=True)
class Child:
    """One process that we started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    _log_began: int

    def tell(self, text: str) -> None:
        """Give it ``text`` and the end on stdin, where it was started to listen."""
        assert self.process.stdin is not None  # noqa: S101 - start(listens=True)
        try:
            self.process.stdin.write(text.encode())
            self.process.stdin.close()
        except BrokenPipeError:
            return  # it died: whoever waits for it says so

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until ``ready``. Raises LocalServiceError with the log's end where it dies or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None:
                raise LocalServiceError(f"{self.name} ended with exit code {self.process.returncode}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise LocalServiceError(f"{self.name} was not ready within {seconds:g} s\n{self.tail()}")
            time.sleep(0.03)

    def stop(self, signum: int = signal.SIGTERM, *, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end, and end it where it does not within ``seconds``."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tail(self, lines: int = 15) -> str:
        """The last lines that it logged since it was started, indented."""
        return "\n".join(f"    {line}" for line in self.last_lines(lines))

    def last_lines(self, lines: int) -> list[str]:
        """The last lines that it logged since it was started."""
        with self.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(min(end, max(self._log_began, end - _TAIL_BYTES)))
            return log.read().decode(errors="replace").splitlines()[-lines:]

    def how_it_ended(self) -> str:
        """What ended it, in one line: its signal or exit code, and the line of its log that says most about it."""
        code = self.process.returncode
        if code == -signal.SIGKILL:  # it could not say anything of it
            return "killed by SIGKILL"
        said = [line.strip() for line in self.last_lines(40) if line.strip()]
        telling = next(
            (line for line in reversed(said) if _TELLING.search(line)), said[-1] if code > 0 and said else ""
        )
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{how}: {telling[:300]}" if telling else how


def start(
    home: Path,
    name: str,
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user: int | None = None,
    listens: bool = False,
) -> Child:
    """Start ``command`` in a session of its own, where the terminal's Ctrl-C does not reach it; log to home/logs.

    One that ``listens`` waits for what Child.tell() says.
    """
    log = home / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        began = output.tell()
        with _undisturbed():
            process = subprocess.Popen(  # noqa: S603 - our own command
                list(map(str, command)),
                stdin=subprocess.PIPE if listens else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=folder,
                user=user,
                group=user_group(user),
                extra_groups=[] if user is not None else None,
                start_new_session=True,
            )
            try:
                _write_down(home, name, process.pid)
            except OSError:  # a full disk: the next start would not know of it
                process.kill()
                process.wait()
                raise
    return Child(name, process, log, began)


def stop_all(children: Sequence[Child]) -> None:
    """Ask all of them to end, then wait for each: they end beside each other."""
    for child in children:
        if child.process.poll() is None:
            child.process.terminate()
    for child in children:
        child.stop()


def user_group(user: int | None) -> int | None:
    """The primary group of a user id."""
    if user is None:
        return None
    import pwd  # not on Windows, where there are no user ids either

    return pwd.getpwuid(user).pw_gid


def end_leftovers(home: Path, *, seconds: float = 5) -> None:
    """End what an earlier run in this home left behind: the processes it wrote down, where they still are those."""
    left = [(pid, born) for pid, born in _read(home).values() if born and birth(pid) == born]
    for pid, _ in left:
        _signal(pid, signal.SIGINT)  # all of them end in good order at it; PostgreSQL's SIGTERM waits for its clients
    deadline = time.monotonic() + seconds
    for pid, born in left:
        while birth(pid) == born:
            if time.monotonic() > deadline:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.05)
    _file(home).unlink(missing_ok=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hear SIGINT, SIGTERM and SIGHUP after the block: between a fork and its note they would hide a process."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no other thread hears signals
        return
    heard: list[int] = []
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for signum in heard:
        signal.raise_signal(signum)


def _write_down(home: Path, name: str, pid: int) -> None:
    known = _read(home) | {name: (pid, birth(pid))}
    staging = _file(home).with_suffix(".new")
    staging.write_text(json.dumps(known), encoding="utf-8")
    staging.replace(_file(home))  # at once: half of it would hide every orphan


def _read(home: Path) -> dict[str, tuple[int, str]]:
    try:
        known = json.loads(_file(home).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: (pid, born) for name, (pid, born) in known.items()}


def _file(home: Path) -> Path:
    return home / "children.json"


def birth(pid: int) -> str:
    """When the process of this id started, '' where there is none (or it is a zombie): tells it from a later one."""
    if Path("/proc/self/stat").exists():
        return _birth_by_proc(pid)
    told = subprocess.run(  # noqa: S603
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],  # noqa: S607 - macOS has it, a plain Debian has not
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C", "TZ": "UTC"},
    ).stdout.split(maxsplit=1)
    return told[1].strip() if len(told) == 2 and not told[0].startswith("Z") else ""


def _birth_by_proc(pid: int) -> str:
    """Clock ticks from the machine's start, after the state: proc(5), fields 22 and 3 of stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return
