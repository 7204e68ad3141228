"""What OpenAI's clients send and see, as pydantic models. Shapes only; what Kiln cannot honour is refused by name."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic_core import PydanticCustomError

from api.schemas import Progress
from common.jobs.spec import OUTPUT_FORMATS
from common.jobs.state import Lane, Status
from common.styles import DEFAULT_PROMPT

GENERATIONS = "/v1/images/generations"


def _only(*harmless: object) -> BeforeValidator:
    """Takes values that change nothing, and refuses all others: a parameter is honoured, or named."""

    def check(value: Any) -> Any:
        if value is None or value in harmless:
            return value
        said = "".join(f" or say {one!r}" for one in harmless)
        raise PydanticCustomError("not_honoured", "cannot be honoured here: leave it out{said}", {"said": said})

    return BeforeValidator(check)


def _pattern(pattern: str, said: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if re.fullmatch(pattern, text, re.ASCII) is None:
            raise PydanticCustomError("pattern", "must be {said}", {"said": said})
        return text

    return check


Size = Annotated[StrictStr, AfterValidator(_pattern(r"auto|\d{1,5}x\d{1,5}", "'auto', or width x height as 512x512"))]
Period = Annotated[StrictStr, AfterValidator(_pattern(r"[1-9]\d{0,3}[hd]", "hours or days, as 24h or 7d"))]


class Generation(BaseModel):
    """One call for pictures. null, or leaving a parameter out, means its default."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"prompt": DEFAULT_PROMPT, "size": "256x256"}]},
    )

    prompt: StrictStr
    n: StrictInt | None = Field(default=None, description="pictures; their seeds follow one another")
    size: Size | None = Field(default=None, description="width x height, divisible by 8; auto: the model's own")
    model: StrictStr | None = Field(default=None, description="see GET /v1/models")
    response_format: Literal["url", "b64_json"] | None = Field(default=None, description="left out: b64_json")
    output_format: StrictStr | None = Field(default=None, examples=list(OUTPUT_FORMATS))
    user: StrictStr | None = Field(default=None, description="kept in the job's metadata")
    # ours, by extra_body
    negative_prompt: StrictStr | None = None
    seed: StrictInt | None = None
    num_inference_steps: StrictInt | None = None
    guidance_scale: float | None = Field(default=None, strict=True)
    scheduler: StrictStr | None = None
    style: StrictStr | None = Field(default=None, description="one of GET /v1/styles")
    enhance: StrictBool | None = None
    # theirs, that mean nothing here
    quality: Annotated[Literal["auto"] | None, _only("auto")] = None
    background: Annotated[Literal["auto", "opaque"] | None, _only("auto", "opaque")] = None
    moderation: Annotated[Literal["auto"] | None, _only("auto")] = None
    stream: Annotated[Literal[False] | None, _only(False)] = None
    partial_images: Annotated[Literal[0] | None, _only(0)] = None
    output_compression: Annotated[None, _only()] = None


class Picture(BaseModel):
    """One picture: its bytes in base64, or where they are."""

    b64_json: str | None = None
    url: str | None = Field(default=None, description="presigned: anyone can open it, for a while")
    revised_prompt: str = Field(description="the prompt with its style, enhanced")


class Images(BaseModel):
    """The answer to a call for pictures."""

    created: int
    data: list[Picture]
    background: Literal["opaque"] = "opaque"
    output_format: str
    size: str
    job_id: str = Field(description="not OpenAI's: GET /v1/jobs/{job_id} has seeds, scores and recipe")


class Order(BaseModel):
    """A batch of the lines of an uploaded file."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: StrictStr
    endpoint: StrictStr = Field(description=f"{GENERATIONS} is all there is")
    completion_window: Period = Field(description="24h: what has not started by then expires")
    metadata: dict[StrictStr, StrictStr] | None = None


class Line(BaseModel):
    """One line of such a file."""

    model_config = ConfigDict(extra="forbid")

    custom_id: StrictStr = Field(min_length=1)
    method: Literal["POST"]
    url: Literal["/v1/images/generations"]
    body: Generation


class Counts(BaseModel):
    """Lines of a batch; failed are all that are over without pictures."""

    total: int
    completed: int
    failed: int


class Batch(BaseModel):
    """A batch that was made of a file, as it stands, with what Kiln's own clients read. Times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str = GENERATIONS
    input_file_id: str
    completion_window: str
    status: Literal["in_progress", "completed", "expired", "cancelling", "cancelled"]
    request_counts: Counts
    errors: None = None
    output_file_id: str | None = Field(description="once it is over, where anything succeeded")
    error_file_id: str | None = Field(description="once it is over, where anything did not")
    metadata: dict[str, str]
    created_at: int
    in_progress_at: int
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: None = None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    # not OpenAI's
    name: str
    counts: dict[Status, int]
    progress: Progress
    eta_seconds: float | None
    lane: Lane
    paused_at: datetime | None
    urls: dict[str, str]


class File(BaseModel):
    """One file, without its content."""

    id: str
    object: Literal["file"] = "file"
    bytes: int | None = Field(description="null for what is made while it is read: results of batches")
    created_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"


class Deleted(BaseModel):
    """A file that is no more."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
