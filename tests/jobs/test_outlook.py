"""What waiting jobs are told of their place and time, against the order in which they are then claimed."""

import random
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from common.errors import NumericalError
from common.jobs import lease
from common.jobs.outlook import outlooks
from common.jobs.read import list_jobs
from common.jobs.state import Lane
from common.jobs.workers import record_worker
from tests.jobs.make import claim, claimed, submit

PACE = 2.0  # evaluations per second, of each of two workers


def test_a_jobs_place_is_the_one_at_which_it_is_claimed(engine: Engine) -> None:
    """A place that counts jobs of others' models, of later times, or in another order than the claim's."""
    chance = random.Random(4)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for number in range(60):
        submit(
            engine,
            owner=chance.choice(["ann", "bob"]),
            model=chance.choice(["demo", "demo", "other"]),
            lane=chance.choice(list(Lane)),
            priority=chance.choice([-1, 0, 0, 7]),
            not_before=chance.choice([None, None, None, tomorrow]),
            num_inference_steps=chance.randint(1, 50),
            seed=number,
        )
    for worker in ("w1", "w2"):
        record_worker(
            engine,
            worker,
            state="ready",
            models=["demo"],
            device="cpu",
            seats=2,
            figures={},
            evaluations_per_second=PACE,
        )
    everyones = [job for owner in ("ann", "bob") for job in list_jobs(engine, owner, limit=100)[0]]
    told = outlooks(engine, everyones, alive_seconds=60)
    for job in everyones:
        assert outlooks(engine, [job], alive_seconds=60) == {job.id: told[job.id]}, "asked alone it hears otherwise"
    assert {told[job.id].servable for job in everyones if job.spec.model == "other"} == {False}
    assert {told[job.id].servable for job in everyones if job.spec.model == "demo"} == {True}

    places, told_seconds, seconds, ahead = [], [], [], 0
    while taken := claim(engine):
        ahead += taken.spec.evaluations
        places.append(told[taken.job_id].queue_position)
        told_seconds.append(told[taken.job_id].eta_seconds)
        seconds.append(round(ahead / (2 * PACE), 1))
    assert places == list(range(1, len(places) + 1))
    assert told_seconds == seconds
    for job in everyones:
        if job.not_before > datetime.now(UTC) and job.spec.model == "demo":
            place = told[job.id].queue_position
            assert place is not None
            assert 1 <= place <= len(places) + 1


def test_a_running_job_has_no_place_and_one_that_is_over_is_left_out(engine: Engine) -> None:
    running, over, waiting = (submit(engine, seed=seed) for seed in range(3))
    claimed(engine)
    lease.fail(engine, claimed(engine), NumericalError("the latents became NaN"))

    told = outlooks(engine, list_jobs(engine, "ann", limit=5)[0], alive_seconds=60)

    assert told.keys() == {running, waiting}
    assert over not in told
    assert (told[running].queue_position, told[waiting].queue_position) == (None, 1)
