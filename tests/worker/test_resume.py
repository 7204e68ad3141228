"""A store that is away for a moment costs no progress: not as a job is taken up again, and not as it is given back."""

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from common.jobs.claim import Claim
from common.jobs.read import get_job
from common.local.services import Services
from common.objects import Objects
from tests.jobs.make import claimed, submit
from tests.processes import changed, wait_for
from tests.proxy import Proxy, proxied
from tests.worker.test_run import at_each_evaluation
from worker import checkpoints as checkpoints_module
from worker.run import run
from worker.workshop import Workshop

STEPS = 6
STEP = 0.2  # seconds


@pytest.fixture
def store(workshop: Workshop, services: Services) -> Iterator[Proxy]:
    """What stands between the worker and its bucket."""
    place = urlsplit(services.s3_endpoint_url)
    with proxied(str(place.hostname), place.port or 80) as proxy:
        there = changed(workshop.settings, s3_endpoint_url=f"http://127.0.0.1:{proxy.port}")
        workshop.objects = Objects.from_settings(there)
        yield proxy


def take(workshop: Workshop) -> Claim:
    submit(workshop.engine, num_inference_steps=STEPS)
    return claimed(workshop.engine)


def paint(claim: Claim, workshop: Workshop, *, drain_at: int | None = None) -> int:
    """Run the job; how many evaluations it took. The worker is to stop when ``drain_at`` of them have begun."""

    def step(evaluation: int) -> None:
        if evaluation == drain_at:
            workshop.draining.set()
        time.sleep(STEP)

    with at_each_evaluation(workshop, step) as evaluations:
        run(claim, workshop)
    workshop.draining.clear()
    return len(evaluations)


def status(workshop: Workshop, claim: Claim) -> str:
    job = get_job(workshop.engine, "ann", claim.job_id)
    assert job is not None
    return job.status


def test_a_job_that_is_taken_up_while_the_store_is_away_waits_for_its_checkpoint(
    workshop: Workshop, store: Proxy
) -> None:
    """A store that was restarted is when jobs are given back and taken up; it took one refusal to begin afresh."""
    first = paint(take(workshop), workshop, drain_at=3)
    store.become("refuse")
    again = claimed(workshop.engine)
    store.become("cut")
    counted: list[int] = []
    painting = threading.Thread(target=lambda: counted.append(paint(again, workshop)))
    painting.start()
    wait_for("wait", lambda: [hold.waits_for_store for hold in list(workshop.holds)] == [True])
    store.become("pass")
    painting.join(timeout=60)

    assert status(workshop, again) == "succeeded"
    assert first + counted[0] == STEPS, "a step was done twice"


def test_a_job_that_is_given_back_before_its_checkpoint_was_there_keeps_it(workshop: Workshop, store: Proxy) -> None:
    """What it would keep by then is where a job begins, under a key of a later attempt."""
    first = paint(take(workshop), workshop, drain_at=3)
    store.become("cut")
    waiting = claimed(workshop.engine)
    painting = threading.Thread(target=paint, args=(waiting, workshop))
    painting.start()
    wait_for("wait", lambda: [hold.waits_for_store for hold in list(workshop.holds)] == [True])
    workshop.draining.set()
    painting.join(timeout=30)
    assert status(workshop, waiting) == "queued"
    store.become("pass")

    assert first + paint(claimed(workshop.engine), workshop) == STEPS
    assert status(workshop, waiting) == "succeeded"


def test_the_last_checkpoint_is_tried_until_the_store_takes_it(workshop: Workshop, store: Proxy) -> None:
    claim = take(workshop)
    store.become("cut")
    threading.Timer(2, store.become, ("pass",)).start()
    first = paint(claim, workshop, drain_at=3)

    assert first + paint(claimed(workshop.engine), workshop) == STEPS
    assert status(workshop, claim) == "succeeded"


def test_a_job_that_cannot_be_kept_is_given_back_in_time_and_goes_on_from_what_was_kept_before(
    workshop: Workshop, store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints_module, "PARK_SECONDS", 1.0)
    kept = paint(take(workshop), workshop, drain_at=2)
    again = claimed(workshop.engine)

    def go_away(evaluation: int) -> None:
        if evaluation == 2:
            store.become("cut")
            workshop.draining.set()
        time.sleep(STEP)

    with capture_logs() as logs, at_each_evaluation(workshop, go_away):
        run(again, workshop)
    assert "checkpoint not kept: the object store does not take it" in [line["event"] for line in logs]
    assert status(workshop, again) == "queued"
    workshop.draining.clear()
    store.become("pass")

    assert kept + paint(claimed(workshop.engine), workshop) <= STEPS, "it began before what was kept"


def test_a_damaged_checkpoint_of_a_later_attempt_does_not_hide_the_one_before(workshop: Workshop) -> None:
    first = paint(take(workshop), workshop, drain_at=3)
    again = claimed(workshop.engine)
    damaged = f"checkpoints/{again.job_id}/{again.attempt:06}.safetensors"
    workshop.objects.put(damaged, b"half", "application/octet-stream")
    with capture_logs() as logs:
        assert first + paint(again, workshop) == STEPS
    assert [line["key"] for line in logs if line["event"] == "checkpoint ignored"] == [damaged]


def test_an_attempt_that_lasts_too_long_is_given_back_uncharged_and_the_next_one_goes_on(workshop: Workshop) -> None:
    """It was left to the sweeper, which charged it as a lost worker."""
    claim = take(workshop)
    settings = workshop.settings
    workshop.settings = changed(settings, job_seconds=2 * STEP)
    with capture_logs() as logs:
        first = paint(claim, workshop)
    assert [line["why"] for line in logs if line["event"] == "job parked"] == ["OutOfTime"]
    assert 0 < first < STEPS
    again = claimed(workshop.engine)
    assert again.failures == 0
    workshop.settings = settings

    assert first + paint(again, workshop) == STEPS
    assert status(workshop, claim) == "succeeded"
