"""Named points where a test hurts this process: ``KILN_FAULT=<point>:<kill|stop|raise>`` in; a signal or an error out.

For tests alone. Where the variable is not set, a point costs one look into the environment.
"""

import os
import signal


def fault(point: str) -> None:
    """Strike, once in a process, where KILN_FAULT names ``point``. Raises RuntimeError for ``raise``.

    ``kill`` is SIGKILL and ``stop`` is SIGSTOP, both to ourselves: neither can be caught, so no code tidies up.
    """
    where, _, action = os.environ.get("KILN_FAULT", "").partition(":")
    if where != point:
        return
    del os.environ["KILN_FAULT"]
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case _:
            raise RuntimeError(f"fail point {point}")
