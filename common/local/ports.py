"""How many ports in, as many free ones on loopback out."""

import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """Ports that nothing on 127.0.0.1 uses now. Held open together, so that they differ."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def answers(port: int) -> bool:
    """Does anything on 127.0.0.1 take connections at ``port``?"""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
