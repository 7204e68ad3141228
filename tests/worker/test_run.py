"""The job from top to bottom, in this process: real models, database and bucket; and whatever may go wrong inside."""

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

import pytest
import torch
from celery import Celery
from PIL import Image
from structlog.testing import capture_logs

from common.errors import Unavailable
from common.jobs.claim import Claim
from common.jobs.owner import cancel_job
from common.jobs.read import Job, get_job
from common.jobs.state import Lane
from common.local.services import Services
from common.queue import TASK
from tests.jobs.make import claimed, let_pauses_pass, submit
from tests.worker.outage import database_away
from worker.run import run
from worker.tasks import register
from worker.workshop import Workshop

PROMPT = "a secret orange cat"
STEP = 0.3  # seconds that a step of a large model may take

OnEvaluation = Callable[[int], torch.Tensor | None]


def take(workshop: Workshop, **changes: Any) -> Claim:
    submit(workshop.engine, prompt=PROMPT, style="cinematic", enhance=True, **changes)
    return claimed(workshop.engine)


def read(workshop: Workshop, job_id: UUID) -> Job:
    job = get_job(workshop.engine, "ann", job_id)
    assert job is not None
    return job


def test_a_job_ends_with_its_pictures_texts_recipe_and_timings(workshop: Workshop) -> None:
    claim = take(workshop, num_images=3, keep_best=2, output_format="webp")

    run(claim, workshop)

    job = read(workshop, claim.job_id)
    assert (job.status, job.stage, job.progress_done, job.error) == ("succeeded", None, 12, None)
    assert job.enhanced_prompt is not None
    assert job.enhanced_prompt.startswith(f"{job.styled_prompt}, ")
    assert job.recipe is not None
    assert (job.recipe["enhanced_prompt"], job.recipe["seed"]) == (job.enhanced_prompt, 1)
    assert job.timings is not None
    assert set(job.timings) == {"enhance_ms", "diffuse_ms", "score_ms", "store_ms"}
    assert [image.seed for image in job.images] == [1, 2, 3]
    assert sum(image.key is None for image in job.images) == 1
    for image in job.images:
        if image.key is not None:
            data = b"".join(workshop.objects.open(image.key))
            assert hashlib.sha256(data).hexdigest() == image.sha256
            assert Image.open(io.BytesIO(data)).size == (64, 64)
    assert workshop.holds == {}


@pytest.mark.parametrize(
    ("problem", "code"),
    [(torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"), (float("nan"), "numerical_error")],
    ids=["memory", "nan"],
)
def test_a_picture_that_cannot_be_made_fails_at_once(workshop: Workshop, problem: Exception | float, code: str) -> None:
    def go_wrong(evaluation: int) -> torch.Tensor | None:
        if isinstance(problem, Exception):
            raise problem
        return torch.full((1,), problem)

    claim = take(workshop)
    with at_each_evaluation(workshop, go_wrong):
        run(claim, workshop)

    job = read(workshop, claim.job_id)
    assert job.error is not None
    assert (job.status, job.error["code"], job.images) == ("failed", code, ())
    assert workshop.holds == {}


def test_a_fault_of_ours_is_tried_again_and_named_without_what_it_quotes(workshop: Workshop) -> None:
    fault = ValueError(f"the library quotes {PROMPT}")

    def fail(evaluation: int) -> None:
        raise fault

    submit(workshop.engine, prompt=PROMPT)
    with capture_logs() as logs, at_each_evaluation(workshop, fail):
        for attempt in range(1, workshop.settings.max_failures + 1):
            let_pauses_pass(workshop.engine)
            claim = claimed(workshop.engine)
            assert claim.attempt == attempt
            run(claim, workshop)

    job = read(workshop, claim.job_id)
    assert (job.status, job.error) == (
        "failed",
        {"code": "internal_error", "message": "ValueError in stage diffuse", "retryable": False},
    )
    assert [line["exc_info"] for line in logs] == [fault] * workshop.settings.max_failures


def test_a_cancel_ends_the_job_within_a_step(workshop: Workshop) -> None:
    claim = take(workshop, num_images=2)

    def cancel(evaluation: int) -> None:
        if evaluation == 3:
            cancel_job(workshop.engine, "ann", claim.job_id)
        time.sleep(STEP)

    with capture_logs() as logs, at_each_evaluation(workshop, cancel) as evaluations:
        run(claim, workshop)

    assert len(evaluations) in (3, 4), "the one that had begun was the last"
    assert [line["event"] for line in logs] == ["job canceled"]
    assert read(workshop, claim.job_id).status == "canceled"


def test_a_drain_parks_the_job_and_claims_no_other(workshop: Workshop) -> None:
    claim = take(workshop)

    def drain(evaluation: int) -> None:
        if evaluation == 2:
            workshop.draining.set()
        time.sleep(STEP)

    with capture_logs() as logs, at_each_evaluation(workshop, drain) as evaluations:
        run(claim, workshop)

    assert len(evaluations) in (2, 3), "the one that had begun was the last"
    assert [line["event"] for line in logs] == ["job parked"]
    assert read(workshop, claim.job_id).status == "queued"
    assert workshop.claim() is None

    workshop.draining.clear()
    with at_each_evaluation(workshop, lambda _: time.sleep(0)) as rest:
        run(claimed(workshop.engine), workshop)
    job = read(workshop, claim.job_id)
    assert (job.status, job.attempt) == ("succeeded", 2)
    assert len(evaluations) + len(rest) == job.progress_total, "a step was done twice, or not at all"


def test_a_drain_between_the_stages_loses_no_step(workshop: Workshop) -> None:
    claim = take(workshop)

    def drain(evaluation: int) -> None:
        if evaluation == 4:
            workshop.draining.set()

    with at_each_evaluation(workshop, drain):
        run(claim, workshop)
    assert read(workshop, claim.job_id).status == "queued"
    workshop.draining.clear()
    with at_each_evaluation(workshop, lambda _: time.sleep(0)) as rest:
        run(claimed(workshop.engine), workshop)
    assert read(workshop, claim.job_id).status == "succeeded"
    assert rest == []


def test_a_database_that_is_away_during_the_steps_costs_nothing(workshop: Workshop, services: Services) -> None:
    claim = take(workshop)
    with ExitStack() as outage:

        def go_away_and_come_back(evaluation: int) -> None:
            if evaluation == 1:
                outage.enter_context(database_away(workshop.engine, services))
            if evaluation == 4:
                outage.close()
            time.sleep(STEP)

        with capture_logs() as logs, at_each_evaluation(workshop, go_away_and_come_back):
            run(claim, workshop)

    assert "progress not saved: the database does not answer" in [line["event"] for line in logs]
    job = read(workshop, claim.job_id)
    assert (job.status, job.attempt, job.progress_done) == ("succeeded", 1, 4)


def test_one_message_works_off_everything_that_is_due_for_its_models(workshop: Workshop) -> None:
    due = [submit(workshop.engine, seed=seed, num_inference_steps=1) for seed in (1, 2)]
    other = submit(workshop.engine, model="sd-v1-4")

    message(workshop)

    assert [read(workshop, job_id).status for job_id in (*due, other)] == ["succeeded", "succeeded", "queued"]
    assert {read(workshop, job_id).worker for job_id in due} == {workshop.id}


def test_batch_jobs_leave_a_seat_for_people(workshop: Workshop) -> None:
    batch = [submit(workshop.engine, lane=Lane.BATCH, seed=seed) for seed in (1, 2)]

    first = workshop.claim()
    assert first is not None
    assert (first.job_id, first.lane) == (batch[0], Lane.BATCH)
    with workshop.hold(first):
        assert workshop.claim() is None, "the seats for batch jobs are taken"
        person = submit(workshop.engine)
        claim = workshop.claim()
        assert claim is not None
        assert claim.job_id == person
    second = workshop.claim()
    assert second is not None
    assert second.job_id == batch[1], "the seat was not given back"


def test_a_database_that_is_away_costs_no_seat(workshop: Workshop, services: Services) -> None:
    job_id = submit(workshop.engine, lane=Lane.BATCH)
    with database_away(workshop.engine, services), pytest.raises(Unavailable):
        workshop.claim()

    claim = workshop.claim()
    assert claim is not None
    assert claim.job_id == job_id


def test_a_message_without_a_job_and_one_without_a_database_do_nothing(workshop: Workshop, services: Services) -> None:
    message(workshop)
    job_id = submit(workshop.engine)

    with database_away(workshop.engine, services), capture_logs() as logs:
        message(workshop)

    assert any("nothing claimed" in line["event"] for line in logs)
    assert read(workshop, job_id).status == "queued"


def test_every_fifth_claim_takes_the_oldest_job(workshop: Workshop) -> None:
    oldest = submit(workshop.engine, priority=-1)
    for _ in range(5):
        submit(workshop.engine, priority=1)

    claims = [workshop.claim() for _ in range(5)]

    assert [claim.job_id == oldest for claim in claims if claim] == [False, False, False, False, True]


def message(workshop: Workshop) -> None:
    """What Celery does with one message."""
    app = Celery(set_as_current=False)
    register(app, workshop)
    app.tasks[TASK]()


@contextmanager
def at_each_evaluation(workshop: Workshop, act: OnEvaluation) -> Iterator[list[int]]:
    """``act`` hears of every U-Net evaluation as it ends; what it returns is added to the result."""
    counted: list[int] = []

    def hear(module: object, arguments: object, output: Any) -> Any:
        counted.append(len(counted) + 1)
        addition = act(counted[-1])
        if addition is not None:
            output.sample = output.sample + addition
        return output

    hook = workshop.models["demo"].unet.register_forward_hook(hear)
    try:
        yield counted
    finally:
        hook.remove()
