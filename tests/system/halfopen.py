"""A TCP relay on loopback whose connections can be made half-open: nothing passes any more, and nobody is told."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class Relay:
    """Where to connect; cut() makes the connections that there are half-open, later ones pass."""

    port: int
    made: list[threading.Event] = field(default_factory=list)  # one per connection; set: nothing passes

    def cut(self) -> int:
        """How many connections were cut."""
        alive = [cut for cut in self.made if not cut.is_set()]
        for cut in alive:
            cut.set()
        return len(alive)


@contextmanager
def relayed(target: int) -> Iterator[Relay]:
    """Pass every connection on to ``target``, a port of this machine, during the block."""
    open_sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(server.getsockname()[1])
        accepting = threading.Thread(target=_accept, args=(server, target, relay, open_sockets), daemon=True)
        accepting.start()
        try:
            yield relay
        finally:
            server.shutdown(socket.SHUT_RDWR)  # wakes accept()
            accepting.join(timeout=5)
            for each in open_sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()


def _accept(server: socket.socket, target: int, relay: Relay, open_sockets: list[socket.socket]) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            try:
                upstream = socket.create_connection(("127.0.0.1", target), timeout=5)
            except OSError:
                client.close()
                continue
            upstream.settimeout(None)
            open_sockets += (client, upstream)
            cut = threading.Event()
            relay.made.append(cut)
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=_pump, args=(*pair, cut), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, cut: threading.Event) -> None:
    """Everything that comes from ``source`` goes to ``sink``, its end too; once cut, it goes nowhere."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            if not cut.is_set():
                sink.sendall(data)
        if not cut.is_set():
            sink.shutdown(socket.SHUT_WR)
