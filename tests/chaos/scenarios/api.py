"""C6: the API killed around commit and publish. A rig and a dose in; every job over on return."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import httpx2
from sqlalchemy import text

from common.db import reading
from tests.chaos.rig import Rig
from tests.processes import running_api

POINTS = {"inserted": 0, "committed": 1, "published": 1}  # and how many jobs there are after the kill


def kills(rig: Rig, rounds: int, points: Sequence[str] = tuple(POINTS)) -> None:
    """C6: an API is killed at each point; the client sends the same to another one, and gets one job for its key."""
    with rig.painters([""], seats=2):
        for _ in range(rounds):
            for point in points:
                strike(rig, point)
        rig.emptied()


def strike(rig: Rig, point: str) -> None:
    key = uuid4().hex
    log = rig.kiln.logs / f"api-{point}.log"
    with (
        running_api(rig.kiln.settings, log, KILN_FAULT=f"{point}:kill") as url,
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        try:
            replace(rig, client=client).post(key=key)
        except httpx2.TransportError:
            pass  # the connection died with the process
        else:
            raise AssertionError(f"an API that is to be killed when {point} gave an answer")
    stored = count(rig, key)
    assert stored == POINTS[point], f"{stored} jobs after a kill when {point}"
    rig.post(key=key)
    stored = count(rig, key)
    assert stored == 1, f"{stored} jobs of one key after a kill when {point}"


def count(rig: Rig, key: str) -> int:
    with reading(rig.engine) as connection:
        found = connection.execute(text("SELECT count(*) FROM jobs WHERE idempotency_key = :key"), {"key": key})
        return int(found.scalar_one())
