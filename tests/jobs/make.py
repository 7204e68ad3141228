"""Specs, submissions and claims for tests, with only what matters spelled out."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from common.db import transaction
from common.jobs.claim import Claim, claim_job
from common.jobs.lease import StoredImage, heed, read_wishes
from common.jobs.spec import JobSpec
from common.jobs.submit import Submission, submit_job

SPEC = JobSpec(
    prompt="a red apple",
    negative_prompt="",
    style="none",
    enhance=False,
    model="demo",
    width=64,
    height=64,
    num_inference_steps=4,
    guidance_scale=7.5,
    scheduler="dpm_solver_multistep",
    seed=1,
    num_images=1,
    keep_best=None,
    output_format="png",
)

PICTURE = StoredImage(
    index=0,
    seed=1,
    width=64,
    height=64,
    clip_score=21.5,
    key="images/x/1/0.png",
    thumbnail_key="images/x/1/0.thumb.webp",
    content_type="image/png",
    bytes=3,
    sha256="ab",
)


def submission(owner: str = "ann", **changes: Any) -> Submission:
    spec = replace(SPEC, **{name: changes.pop(name) for name in list(changes) if name in JobSpec.__dataclass_fields__})
    return Submission(owner=owner, spec=spec, fingerprint=changes.pop("fingerprint", "f"), **changes)


def submit(engine: Engine, owner: str = "ann", **changes: Any) -> UUID:
    return submit_job(engine, submission(owner, **changes), max_queued=1_000_000).job_id


def claim(engine: Engine, worker: str = "w1", **changes: Any) -> Claim | None:
    options: dict[str, Any] = {"models": ["demo"], "lease_seconds": 60, "job_seconds": 3600}
    return claim_job(engine, worker=worker, **(options | changes))


def cancel_requested(engine: Engine, claim: Claim) -> bool:
    """Has the job's user asked to cancel? Raises as heed() does."""
    return heed(claim, read_wishes(engine, [claim]))


def claimed(engine: Engine, worker: str = "w1", **changes: Any) -> Claim:
    taken = claim(engine, worker, **changes)
    assert taken is not None, "nothing could be claimed"
    return taken


def let_leases_run_out(engine: Engine, job_id: UUID | None = None) -> None:
    """What a minute of silence does, without the minute; to all leases, or that of one job."""
    statement = text(
        "UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 s'"
        " WHERE status = 'running' AND id = coalesce(:id, id)"
    )
    with transaction(engine) as connection:
        connection.execute(statement, {"id": job_id})


def let_pauses_pass(engine: Engine) -> None:
    """Past the triggers, for time marks no job as due either."""
    with transaction(engine) as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE jobs SET not_before = clock_timestamp() WHERE status = 'queued'"))


def put_off(engine: Engine) -> None:
    """What closing their window does to a batch's jobs, to all there are."""
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET not_before = clock_timestamp() + interval '1 h'"))


def let_run_deadline_pass(engine: Engine, job_id: UUID) -> None:
    """What an attempt of more than KILN_JOB_SECONDS sees."""
    statement = text("UPDATE jobs SET run_deadline_at = clock_timestamp() - interval '1 s' WHERE id = :id")
    with transaction(engine) as connection:
        connection.execute(statement, {"id": job_id})


def let_deadlines_pass(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(
            text(
                "UPDATE jobs SET deadline = clock_timestamp() - interval '1 s'"
                " WHERE status = 'queued' AND deadline IS NOT NULL"
            )
        )
