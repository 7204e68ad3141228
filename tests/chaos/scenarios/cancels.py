"""C11: jobs canceled at random moments. A rig and a number of jobs in; all of them over on return."""

import random
import time

from common.ids import parse_id
from common.objects import Objects
from tests.chaos.rig import Rig

LONGEST_WAIT = 0.4  # seconds before a cancel: longer than a job takes on a quiet machine
TOGETHER = 20


def cancels(rig: Rig, rounds: int) -> None:
    """C11: ``rounds`` jobs are canceled at any moment of their life; of those that are, nothing is stored."""
    chance = random.Random(11)
    objects = Objects.from_settings(rig.kiln.settings)
    with rig.painters(["", ""], seats=3):
        for first in range(0, rounds, TOGETHER):
            count = min(TOGETHER, rounds - first)
            jobs = [_cancel_late(rig, chance) for _ in range(count)]
            rig.emptied()
            for job in jobs:
                if rig.kiln.job(job)["status"] == "canceled":
                    left = objects.keys(f"images/{parse_id('job', job).hex}/")
                    assert not left, f"{job} is canceled, and these are stored: {left}"


def _cancel_late(rig: Rig, chance: random.Random) -> str:
    job = rig.post(num_inference_steps=chance.randint(1, 20))
    time.sleep(chance.uniform(0, LONGEST_WAIT))
    rig.note({"canceled": job})
    rig.client.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    return job
