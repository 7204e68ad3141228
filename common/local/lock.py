"""One Kiln to a home: its lock, which goes with the process that holds it, and who that is."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.local.children import LocalServiceError, birth


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home's lock; it goes with the process, however that ends. Raises LocalServiceError where it is held."""
    with (home / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().partition("\n")[0]
            raise LocalServiceError(
                f"Kiln runs in {home} already (process {pid}); {home / 'run.json'} tells where"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n{birth(os.getpid())}")
        lock.flush()
        (home / "run.json").unlink(missing_ok=True)  # a killed one's
        yield


def is_held(home: Path) -> bool:
    """Whether a Kiln runs in this home."""
    try:
        with (home / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def holder(home: Path) -> int | None:
    """The process that runs Kiln in this home; None where none does, or it has not said yet who it is."""
    if not is_held(home):
        return None
    pid, _, born = (home / "lock").read_text(encoding="utf-8").partition("\n")
    return int(pid) if born and birth(int(pid)) == born else None  # else a killed one's, whose number another has now
