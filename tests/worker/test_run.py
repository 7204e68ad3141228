"""The job from top to bottom, in this process: real models, database and bucket; and whatever may go wrong inside."""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

import pytest
import torch
from celery import Celery
from PIL import Image
from structlog.testing import capture_logs

from common.jobs.claim import Claim
from common.jobs.owner import cancel_job
from common.jobs.read import Job, get_job
from common.local.services import Services
from common.queue import TASK
from tests.jobs.make import claimed, let_pauses_pass, submit
from tests.worker.outage import database_away
from worker.run import run
from worker.tasks import register
from worker.workshop import Workshop

PROMPT = "a secret orange cat"

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
    assert (workshop.evaluations, workshop.holds) == (12, {})


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


def test_a_cancel_between_two_steps_ends_the_job_before_the_next_evaluation(workshop: Workshop) -> None:
    claim = take(workshop, num_images=2)

    def cancel(evaluation: int) -> None:
        if evaluation == 3:
            cancel_job(workshop.engine, "ann", claim.job_id)

    with capture_logs() as logs, at_each_evaluation(workshop, cancel) as evaluations:
        run(claim, workshop)

    assert len(evaluations) == 3
    assert [line["event"] for line in logs] == ["job canceled"]
    assert read(workshop, claim.job_id).status == "canceled"


def test_a_drain_between_two_steps_parks_the_job_and_claims_no_other(workshop: Workshop) -> None:
    claim = take(workshop)

    def drain(evaluation: int) -> None:
        if evaluation == 2:
            workshop.draining.set()

    with capture_logs() as logs, at_each_evaluation(workshop, drain) as evaluations:
        run(claim, workshop)

    assert len(evaluations) == 2
    assert [line["event"] for line in logs] == ["job parked"]
    assert read(workshop, claim.job_id).status == "queued"
    assert workshop.claim() is None
    assert claimed(workshop.engine).attempt == 2


def test_a_database_that_is_away_during_the_steps_costs_nothing(workshop: Workshop, services: Services) -> None:
    claim = take(workshop)
    with ExitStack() as outage:

        def go_away_and_come_back(evaluation: int) -> None:
            if evaluation == 1:
                outage.enter_context(database_away(workshop.engine, services))
            if evaluation == 4:
                outage.close()

        with capture_logs() as logs, at_each_evaluation(workshop, go_away_and_come_back):
            run(claim, workshop)

    assert [line["event"] for line in logs].count("progress not saved: the database does not answer") == 3
    job = read(workshop, claim.job_id)
    assert (job.status, job.attempt, job.progress_done) == ("succeeded", 1, 4)


def test_one_message_works_off_everything_that_is_due_for_its_models(workshop: Workshop) -> None:
    due = [submit(workshop.engine, seed=seed, num_inference_steps=1) for seed in (1, 2)]
    other = submit(workshop.engine, model="sd-v1-4")

    message(workshop)

    assert [read(workshop, job_id).status for job_id in (*due, other)] == ["succeeded", "succeeded", "queued"]
    assert {read(workshop, job_id).worker for job_id in due} == {workshop.id}


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
