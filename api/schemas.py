"""What clients send and what they see, as pydantic models. Shapes only; resolve.py and views.py cross to the domain."""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
)
from pydantic_core import PydanticCustomError

from common.jobs.deliveries import DeliveryStatus
from common.jobs.spec import OUTPUT_FORMATS, SCHEDULERS
from common.jobs.state import Lane, Stage, Status
from common.styles import DEFAULT_PROMPT, STYLES

Item = TypeVar("Item")


def _in_utc(at: datetime) -> datetime:
    """The same moment in UTC, as PostgreSQL gives it back: one beyond Python's years could be stored and never read."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("moment", "must be in the years 1 to 9999 of UTC") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


Ended = Literal["succeeded", "failed", "canceled", "expired"]


class Webhook(BaseModel):
    """Who is told, by a signed POST, when a job ends (docs/webhooks.md)."""

    model_config = ConfigDict(extra="forbid")

    url: StrictStr = Field(
        description="https, on the internet; at most 2,000 characters", examples=["https://example.com/kiln"]
    )
    events: list[Ended] = Field(
        default=["succeeded", "failed", "canceled", "expired"], min_length=1, description="the ends that are told"
    )


class Overrides(BaseModel):
    """The fields of a job request. null, or leaving a field out, means its default (GET /v1/defaults)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: StrictStr | None = Field(default=None, examples=[DEFAULT_PROMPT])
    negative_prompt: StrictStr | None = Field(default=None, description='what not to show; "" for nothing')
    style: StrictStr | None = Field(default=None, examples=list(STYLES), description="in any case; see GET /v1/styles")
    enhance: StrictBool | None = Field(default=None, description="let GPT-2 add quality words")
    model: StrictStr | None = Field(default=None, description="see GET /v1/models", examples=["demo"])
    width: StrictInt | None = Field(default=None, description="pixels, divisible by 8", examples=[256])
    height: StrictInt | None = Field(default=None, description="pixels, divisible by 8", examples=[256])
    num_inference_steps: StrictInt | None = Field(default=None, examples=[20])
    guidance_scale: float | None = Field(default=None, strict=True, examples=[7.5])
    scheduler: StrictStr | None = Field(default=None, examples=list(SCHEDULERS), description="see GET /v1/schedulers")
    seed: StrictInt | None = Field(default=None, description="0 to 4294967295; chosen and recorded when left out")
    num_images: StrictInt | None = Field(default=None, examples=[1], description="their seeds follow one another")
    keep_best: StrictInt | None = Field(default=None, description="keep this many of num_images, by CLIP score")
    output_format: StrictStr | None = Field(default=None, examples=list(OUTPUT_FORMATS))
    lane: StrictStr | None = Field(default=None, examples=list(Lane), description="interactive goes before batch")
    priority: StrictInt | None = Field(default=None, examples=[0], description="-1000 to 1000, higher goes first")
    not_before: Moment | None = Field(default=None, description="earliest start, RFC 3339 with an offset")
    deadline: Moment | None = Field(default=None, description="a job that has not started by then expires")
    metadata: dict[StrictStr, StrictStr] | None = Field(default=None, examples=[{"album": "cats"}])
    webhook: Webhook | None = Field(default=None, description="who is told when the job ends", examples=[None])
    reuse: StrictBool | None = Field(
        default=None, description="take the pictures of an equal job of yours, where there is one; false: paint anew"
    )


class JobRequest(Overrides):
    """A job as a client asks for it: a prompt, and what should differ from the defaults."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": DEFAULT_PROMPT, "style": "cinematic", "seed": 32}]}
    )

    prompt: StrictStr = Field(description="1 to 2,000 characters", examples=[DEFAULT_PROMPT])


class Input(BaseModel):
    """The request as it was resolved: every default filled in, the seed chosen."""

    prompt: str
    negative_prompt: str
    style: str
    enhance: bool
    model: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    seed: int
    num_images: int
    keep_best: int | None
    output_format: str
    lane: Lane
    priority: int
    not_before: datetime
    deadline: datetime | None


class Image(BaseModel):
    """One picture. ``url`` is presigned until ``expires_at``; null where keep_best dropped the picture."""

    id: str
    object: Literal["image"] = "image"
    job_id: str
    index: int
    seed: int
    url: str | None
    thumbnail_url: str | None
    expires_at: datetime | None
    width: int
    height: int
    content_type: str | None
    bytes: int | None
    sha256: str | None
    clip_score: float = Field(description="100 * max(cos(image, prompt), 0), against the user's own prompt")


class Exhibit(Image):
    """One picture of the gallery, with what its job asked for."""

    prompt: str
    style: str
    batch_id: str | None


class Progress(BaseModel):
    """U-Net evaluations done and in all."""

    done: int
    total: int
    percent: float


class Job(BaseModel):
    """One job as it stands."""

    id: str
    object: Literal["job"] = "job"
    status: Status
    stage: Stage | None
    progress: Progress
    queue_position: int | None = Field(description="1 is next; null once it runs")
    eta_seconds: float | None = Field(description="to its end, at the pace of the live workers; null when unknown")
    servable: bool | None = Field(description="false: no live worker has this model; null once it has finished")
    attempt: int
    batch_id: str | None
    custom_id: str | None = Field(description="what its batch calls it")
    retried_from: str | None
    reused_from: str | None = Field(description="the job that painted these pictures; this one asked for the same")
    input: Input
    styled_prompt: str | None
    enhanced_prompt: str | None
    images: list[Image]
    recipe: dict[str, Any] | None = Field(description="what is needed to make the pictures again")
    timings: dict[str, Any] | None
    error: dict[str, Any] | None
    metadata: dict[str, str]
    webhook: Webhook | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    urls: dict[str, str]


class Delivery(BaseModel):
    """One message to a webhook."""

    id: str = Field(description="the header webhook-id, the same at every attempt")
    object: Literal["webhook_delivery"] = "webhook_delivery"
    type: str = Field(examples=["job.succeeded"])
    status: DeliveryStatus
    job_id: str | None
    batch_id: str | None
    url: str
    attempts: int
    last_attempt_at: datetime | None
    last_status_code: int | None
    last_error: str | None = Field(description="why there was no answer, as address_refused or timeout")
    next_attempt_at: datetime | None
    created_at: datetime


class WebhookSecret(BaseModel):
    """What verifies the webhooks of one owner."""

    object: Literal["webhook_secret"] = "webhook_secret"
    secret: str = Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])
    made_at: datetime
    previous_until: datetime | None = Field(description="until then the secret before signs, too")


class Page(BaseModel, Generic[Item]):
    """One page of a list. ``last_id`` goes into the next call's ``after``."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    last_id: str | None


class Problem(BaseModel):
    """application/problem+json (RFC 9457), with the OpenAI client's error object inside."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[dict[str, str]] = Field(description="pointer (RFC 6901) and detail of each field that is wrong")
    error: dict[str, str | None] = Field(description="message, type, param and code, as OpenAI's clients read them")
