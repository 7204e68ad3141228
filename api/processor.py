"""A thread's id in, how long it has waited for a processor out: tells a busy machine from a slow service.

Linux tells it in /proc/self/task/ID/schedstat; elsewhere it is 0.
"""

from pathlib import Path

_TASKS = Path("/proc/self/task")


def waited_for_processor(thread: int) -> float:
    """Seconds in all since the thread began, in which it could run and did not (proc_pid_schedstat: run_delay)."""
    try:
        return int((_TASKS / str(thread) / "schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
