"""Rows in, what clients see out: ids with prefixes, presigned URLs, progress in percent. Touches nothing outside."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from api import orders, schemas
from common.ids import show_id
from common.jobs.deliveries import Delivery
from common.jobs.gallery import Exhibit
from common.jobs.outlook import Outlook
from common.jobs.read import Image, Job
from common.jobs.state import Lane, Stage, Status
from common.jobs.tally import Batch
from common.jobs.window import Window
from common.objects import Objects


def show_job(job: Job, outlook: Outlook | None, *, base_url: str, objects: Objects, url_seconds: int) -> schemas.Job:
    """The job as the API tells it. ``outlook`` is None for a job that has finished."""
    own_url = f"{base_url}v1/jobs/{show_id('job', job.id)}"
    timings = dict(job.timings or {}) | {"queued_ms": _queued_ms(job), "worker": job.worker}
    return schemas.Job(
        id=show_id("job", job.id),
        status=job.status,
        stage=Stage(job.stage) if job.stage else None,
        progress=_progress(job.progress_done, job.progress_total),
        queue_position=outlook.queue_position if outlook else None,
        eta_seconds=outlook.eta_seconds if outlook else None,
        servable=outlook.servable if outlook else None,
        attempt=job.attempt,
        batch_id=_show_optional("batch", job.batch_id),
        custom_id=job.custom_id,
        retried_from=_show_optional("job", job.retried_from),
        reused_from=_show_optional("job", job.reused_from),
        input=schemas.Input(
            **job.spec.to_json(),
            lane=Lane(job.lane),
            priority=job.priority,
            not_before=job.not_before,
            deadline=job.deadline,
        ),
        styled_prompt=job.styled_prompt,
        enhanced_prompt=job.enhanced_prompt,
        images=[show_image(image, objects=objects, url_seconds=url_seconds) for image in job.images],
        recipe=dict(job.recipe) if job.recipe else None,
        timings=timings if job.started_at else None,
        error=dict(job.error) if job.error else None,
        metadata=dict(job.metadata),
        webhook=schemas.Webhook(**wanted(job.webhook)) if job.webhook else None,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        urls={"self": own_url} | {call: f"{own_url}/{call}" for call in ("cancel", "retry", "events")},
    )


def show_image(image: Image, *, objects: Objects, url_seconds: int) -> schemas.Image:
    """The picture, with URLs that anyone can open until they expire."""
    kept = image.key is not None
    return schemas.Image(
        id=show_id("img", image.id),
        job_id=show_id("job", image.job_id),
        index=image.index,
        seed=image.seed,
        url=objects.presign(image.key, url_seconds) if image.key else None,
        thumbnail_url=objects.presign(image.thumbnail_key, url_seconds) if image.thumbnail_key else None,
        expires_at=datetime.now(UTC) + timedelta(seconds=url_seconds) if kept else None,
        width=image.width,
        height=image.height,
        content_type=image.content_type,
        bytes=image.bytes,
        sha256=image.sha256,
        clip_score=round(image.clip_score, 2),
    )


def show_exhibit(exhibit: Exhibit, *, objects: Objects, url_seconds: int) -> schemas.Exhibit:
    """The picture as the gallery shows it."""
    image = show_image(exhibit.image, objects=objects, url_seconds=url_seconds)
    batch_id = _show_optional("batch", exhibit.batch_id)
    return schemas.Exhibit(**image.model_dump(), prompt=exhibit.prompt, style=exhibit.style, batch_id=batch_id)


def show_batch(batch: Batch, *, base_url: str) -> orders.Batch:
    """The batch as the API tells it."""
    own_url = f"{base_url}v1/batches/{show_id('batch', batch.id)}"
    calls = ("pause", "resume", "cancel", "retry-failed", "results", "archive", "report", "events")
    return orders.Batch(
        id=show_id("batch", batch.id),
        name=batch.name,
        status=batch.status,
        counts={status: batch.counts.get(status, 0) for status in Status},
        progress=_progress(batch.done, batch.total),
        eta_seconds=batch.eta_seconds,
        lane=Lane(batch.lane),
        deadline=batch.deadline,
        window=orders.NightWindow.model_validate(batch.window) if batch.window else None,
        opens_at=_opens(batch),
        closes_at=batch.closes_at,
        keep_best=batch.keep_best,
        best_kept_at=batch.pruned_at,
        webhook=orders.BatchWebhook(**wanted(batch.webhook)) if batch.webhook else None,
        metadata=dict(batch.metadata),
        created_at=batch.created_at,
        started_at=batch.started_at,
        paused_at=batch.paused_at,
        canceled_at=batch.canceled_at,
        finished_at=batch.finished_at,
        urls={"self": own_url} | {call: f"{own_url}/{call}" for call in calls},
    )


def _opens(batch: Batch) -> datetime | None:
    """When its window opens next; None while it is open, and where nothing waits for it."""
    if batch.window is None or batch.finished_at is not None:
        return None
    now = datetime.now(UTC)
    opens = Window.from_json(batch.window).span(now).opens
    return opens if opens > now else None


def wanted(webhook: Mapping[str, Any]) -> dict[str, Any]:
    """A webhook as it was asked for."""
    return {name: webhook[name] for name in ("url", "events")}


def show_delivery(delivery: Delivery) -> schemas.Delivery:
    """The delivery as the API tells it."""
    return schemas.Delivery(
        id=show_id("msg", delivery.id),
        type=delivery.type,
        status=delivery.status,
        job_id=_show_optional("job", delivery.job_id),
        batch_id=_show_optional("batch", delivery.batch_id),
        url=delivery.url,
        attempts=delivery.attempts,
        last_attempt_at=delivery.last_attempt_at,
        last_status_code=delivery.last_status_code,
        last_error=delivery.last_error,
        next_attempt_at=delivery.next_attempt_at,
        created_at=delivery.created_at,
    )


def _progress(done: int, total: int) -> schemas.Progress:
    return schemas.Progress(done=done, total=total, percent=round(100 * done / max(1, total), 1))


def _queued_ms(job: Job) -> int | None:
    return round((job.started_at - job.created_at) / timedelta(milliseconds=1)) if job.started_at else None


def _show_optional(prefix: str, value: UUID | None) -> str | None:
    return show_id(prefix, value) if value else None
