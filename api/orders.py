"""What clients send for a batch, and what they see of one, as pydantic models. Shapes only."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, StrictInt, StrictStr

from api.schemas import Ended, JobRequest, Moment, Overrides, Progress
from common.jobs.state import BatchStatus, Lane, Status
from common.jobs.window import DAYS

NIGHT: dict[str, JsonValue] = {"start": "22:00", "end": "06:00", "tz": "Europe/Berlin", "days": ["mon", "tue"]}
MAX_SEEDS = 100_000  # of one prompt

EXAMPLE: dict[str, JsonValue] = {
    "name": "apples by night",
    "defaults": {"num_inference_steps": 20},
    "matrix": {"prompts": ["a red apple", "a green apple"], "styles": ["cinematic", "anime"], "seeds_per_prompt": 2},
}


class Matrix(BaseModel):
    """Every combination of these becomes a job. A list that is left out is the default alone.

    Of what is no text, or no number, a list names the first: many of those would be far more errors.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompts: list[StrictStr] = Field(min_length=1, fail_fast=True)
    styles: list[StrictStr] | None = Field(default=None, min_length=1, fail_fast=True)
    schedulers: list[StrictStr] | None = Field(default=None, min_length=1, fail_fast=True)
    steps: list[StrictInt] | None = Field(default=None, min_length=1, fail_fast=True)
    guidance: list[float] | None = Field(default=None, min_length=1, fail_fast=True)
    seeds: list[StrictInt] | None = Field(default=None, min_length=1, fail_fast=True)
    seeds_per_prompt: StrictInt | None = Field(
        default=None,
        ge=1,
        le=MAX_SEEDS,
        description="in place of seeds: so many are chosen for each prompt, the same in all styles",
    )


class NightWindow(BaseModel):
    """When the jobs of a batch may run. One that ends before it starts lasts until the next day."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [NIGHT]})

    start: StrictStr = Field(description="HH:MM by the clocks of tz")
    end: StrictStr = Field(description="HH:MM; what runs then is kept, and goes on when the window opens again")
    tz: StrictStr = Field(default="UTC", description="a zone of the IANA database, as Europe/Berlin")
    days: list[StrictStr] = Field(default=list(DAYS), min_length=1, description="on which it opens: mon to sun")


class BatchWebhook(BaseModel):
    """Who is told, by signed POSTs, when the batch is over, or when each of its jobs ends (docs/webhooks.md)."""

    model_config = ConfigDict(extra="forbid")

    url: StrictStr = Field(
        description="https, on the internet; at most 2,000 characters", examples=["https://example.com/kiln"]
    )
    events: list[Ended | Literal["completed"]] = Field(
        default=["completed"],
        min_length=1,
        description="completed: all its jobs are over; the others: that end of each job",
    )


class Options(BaseModel):
    """What holds for a batch as a whole."""

    model_config = ConfigDict(extra="forbid")

    name: StrictStr = Field(default="", description="at most 200 characters")
    lane: Lane = Field(default=Lane.BATCH, description="interactive goes before batch")
    deadline: Moment | None = Field(default=None, description="what has not started by then expires")
    keep_best: int | None = Field(
        default=None,
        ge=1,
        description="of pictures that differ in the seed alone, so many keep their objects once all jobs are over: "
        "those that fit their prompt best",
    )
    dry_run: bool = Field(default=False, description="say what it would be, and store nothing")


class LineOptions(Options):
    """What holds for a batch of lines: each line becomes a job for every style, and for so many seeds."""

    window: StrictStr | None = Field(
        default=None, description="HH:MM-HH:MM: its jobs run only then", examples=["22:00-06:00"]
    )
    tz: StrictStr = Field(default="UTC", description="of the window, as Europe/Berlin")
    days: list[StrictStr] = Field(default=list(DAYS), description="repeatable: on which the window opens")
    styles: list[StrictStr] = Field(default=[], description="repeatable, in place of a style in each line")
    seeds_per_line: int | None = Field(
        default=None, ge=1, le=MAX_SEEDS, description="so many are chosen, the same in all styles"
    )
    webhook_url: StrictStr | None = Field(default=None, description="who is told: see webhook of a batch in JSON")
    webhook_events: list[Ended | Literal["completed"]] = Field(
        default=["completed"], min_length=1, description="repeatable: of what"
    )


class BatchRequest(Options):
    """A batch as a client asks for it in JSON."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    matrix: Matrix
    defaults: Overrides | None = Field(default=None, description="fields of every job")
    metadata: dict[StrictStr, StrictStr] = Field(default={}, description="of the batch, not of its jobs")
    window: NightWindow | None = Field(default=None, description="its jobs run only then")
    webhook: BatchWebhook | None = Field(default=None, description="who is told of its end, or of its jobs'")
    dry_run: StrictBool = Field(default=False, description="say what it would be, and store nothing")


class Line(JobRequest):
    """One job of a batch, as a line of NDJSON or a row of CSV."""

    custom_id: StrictStr | None = Field(default=None, description="your name for the job, 200 characters at most")


class Batch(BaseModel):
    """One batch as it stands."""

    id: str
    object: Literal["batch"] = "batch"
    name: str
    status: BatchStatus
    counts: dict[Status, int] = Field(description="jobs in each state")
    progress: Progress
    eta_seconds: float | None = Field(description="at the pace of the live workers, if nothing else waits")
    lane: Lane
    deadline: datetime | None
    window: NightWindow | None
    opens_at: datetime | None = Field(description="when its window opens next; null while it is open, or without one")
    closes_at: datetime | None = Field(description="when its window closes next")
    keep_best: int | None
    best_kept_at: datetime | None = Field(description="when keep_best was applied, once all jobs were over")
    webhook: BatchWebhook | None
    metadata: dict[str, str]
    created_at: datetime
    started_at: datetime | None
    paused_at: datetime | None
    canceled_at: datetime | None
    finished_at: datetime | None
    urls: dict[str, str]


class Estimate(BaseModel):
    """What a batch would be."""

    object: Literal["estimate"] = "estimate"
    jobs: int
    images: int
    evaluations: int = Field(description="U-Net evaluations of all jobs")
    seconds: float | None = Field(description="of the live workers, if nothing else waits; null where none can tell")
    bytes: int | None = Field(description="as large as your newest pictures; null before the first one")
