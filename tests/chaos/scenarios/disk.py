"""C9: the disks of broker, database and object store fill up. A rig and a dose in; every job over on return."""

import time
from uuid import uuid4

import httpx2

from tests.chaos.disks import filled
from tests.chaos.rig import Rig
from tests.chaos.servers import Servers
from tests.processes import wait_for

DISKS = {"redis": 24, "s3": 96, "postgres": 192}  # MiB: as much as each has at its start, and a little
SIGNS = {  # of Kiln's, in its logs, that the disk was missed
    "redis": "message not sent",
    "s3": "the job waits for the object store",
    "postgres": "database",
}
SECONDS = 10
JOBS = 12


def fills(rig: Rig, rounds: int) -> None:
    """C9: each disk is full for a while, as jobs come and others run. No false success, and all end once there is room.

    A server that ended over it, or cannot go on, is started again, as its operator would.
    """
    servers = Servers(rig)
    with rig.painters(["", ""], seats=2):
        for _ in range(rounds):
            for name, sign in SIGNS.items():
                with filled(rig.home / name):
                    refused = post_until(rig, sign)
                    time.sleep(SECONDS if rounds > 1 else 1)
                servers.revive(name)
                for key in refused:
                    rig.post_patiently(key=key)
                rig.emptied()


def post_until(rig: Rig, sign: str) -> list[str]:
    """Post jobs until Kiln shows the sign, JOBS at least; returns the keys of those that were refused.

    What an earlier round freed may leave room for some: PostgreSQL misses nothing before it is used up.
    """
    before, keys = signs(rig, sign), [uuid4().hex for _ in range(JOBS)]
    refused = [key for key in keys if not taken(rig, key)]

    def shown() -> bool:
        if signs(rig, sign) > before:
            return True
        if not taken(rig, key := uuid4().hex):
            refused.append(key)
        return False

    wait_for(f"sign of a full disk, which is {sign!r}", shown)
    return refused


def taken(rig: Rig, key: str) -> bool:
    """Whether a job is accepted now."""
    try:
        rig.post(key=key)
    except (AssertionError, httpx2.HTTPError):
        return False
    return True


def signs(rig: Rig, sign: str) -> int:
    return sum(log.read_text().count(sign) for log in rig.kiln.logs.glob("*.log"))
