"""A TCP relay on loopback that loses the first answer: the request arrives, the connection dies. For tests."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class Relay:
    """Where to connect, and how many connections lost their answer or were passed on."""

    url: str
    lost: int = 0
    passed: int = 0
    threads: list[threading.Thread] = field(default_factory=list)


@contextmanager
def losing_first_answer(host: str, port: int) -> Iterator[Relay]:
    """Pass every connection on to ``host``:``port``; of the first one only the request."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(f"http://127.0.0.1:{server.getsockname()[1]}")
        accepting = threading.Thread(target=_accept, args=(server, (host, port), relay))
        accepting.start()
        try:
            yield relay
        finally:
            server.shutdown(socket.SHUT_RDWR)  # wakes accept()
            accepting.join(timeout=5)
            for thread in relay.threads:
                thread.join(timeout=5)


def _accept(server: socket.socket, target: tuple[str, int], relay: Relay) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        thread = threading.Thread(target=_serve, args=(client, target, relay), daemon=True)
        relay.threads.append(thread)
        thread.start()


def _serve(client: socket.socket, target: tuple[str, int], relay: Relay) -> None:
    with client, socket.create_connection(target) as upstream:
        asking = threading.Thread(target=_pump, args=(client, upstream))
        asking.start()
        if relay.lost == 0 and upstream.recv(1 << 16):  # the API has answered: the request was carried out
            relay.lost += 1
        else:
            relay.passed += 1
            _pump(upstream, client)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # wakes the other direction
        asking.join(timeout=5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Everything that comes from ``source`` goes to ``sink``, its end too."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
