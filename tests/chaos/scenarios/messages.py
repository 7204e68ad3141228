"""C7: the broker's messages doubled, forged and stale. A rig and a number of jobs in; all of them over on return."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import cycle, islice
from typing import Any

from redis import Redis

from common.queue import queue_name
from tests.chaos.rig import Rig
from tests.processes import wait_for

COPIES = 9  # beside the one that the API sends
BACKLOG = 50  # jobs that wait at most: so that messages meet jobs, and not a queue


def flood(rig: Rig, rounds: int) -> None:
    """C7: for each of ``rounds`` jobs nine messages more than there should be, and one that no API would send."""
    queue = queue_name(rig.kiln.settings.model)
    with broker(rig) as redis:
        rig.post()
        wait_for("message", lambda: redis.llen(queue))
        real = redis.lrange(queue, 0, 0)[0]
        with rig.painters(["", ""], seats=2) as painters:
            for number, false in enumerate(islice(cycle(forgeries(json.loads(real))), rounds)):
                if number % BACKLOG == 0:
                    wait_for("shorter queue", lambda: rig.count("queued") < BACKLOG, seconds=120)
                rig.post()
                redis.lpush(queue, false, *[real] * COPIES)
            rig.emptied(seconds=600)
            wait_for("empty queue", lambda: not redis.llen(queue), seconds=600)
            rig.post()  # whoever can still be woken wakes
            rig.emptied()
            assert all(painter.exit_code is None for painter in painters), rig.kiln.tails()


@contextmanager
def broker(rig: Rig) -> Iterator[Redis]:
    """The rig's broker, to be spoken to as whoever has its password."""
    with Redis.from_url(rig.services.broker_url, socket_timeout=5) as redis:
        yield redis


def forgeries(real: dict[str, Any]) -> list[bytes]:
    """Messages that differ from the ``real`` one: another task, a deadline long past, no sense at all."""
    false = {
        ("headers", "task"): "kiln.unknown",
        ("headers", "expires"): "2020-01-01T00:00:00+00:00",
        ("headers", "eta"): "2099-01-01T00:00:00+00:00",
        ("body",): encoded([["a"], {"b": 1}, {}]),
        ("content-type",): "application/x-python-serialize",
        ("properties", "body_encoding"): "rot13",
        ("properties",): {},
        ("headers",): {},
    }
    made = [json.dumps(changed(real, path, value)).encode() for path, value in false.items()]
    return [*made, b"{}", b"[]", b"\x00 no JSON"]


def changed(real: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    """A copy with another ``value`` at ``path``."""
    copy = deepcopy(real)
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return copy


def encoded(arguments: object) -> str:
    return base64.b64encode(json.dumps(arguments).encode()).decode()
