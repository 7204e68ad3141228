"""A call of OpenAI's in, the job request that it means out; and what is wrong with that, in the call's own words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from api.compat.shapes import Generation
from api.schemas import JobRequest
from common.errors import FieldError, InvalidRequest

ALIKE = (
    "prompt", "model", "output_format", "negative_prompt", "seed", "num_inference_steps", "guidance_scale",
    "scheduler", "style", "enhance",
)  # fmt: skip

# Where OpenAI says the fields of a job that have another name there
NAMES = {"width": "size", "height": "size", "num_images": "n", "metadata": "user"}


def as_job(asked: Generation, *, remember: bool = False) -> JobRequest:
    """The job; ``remember``: with how the pictures are to be given, for answers that are made later."""
    said: dict[str, Any] = {name: value for name in ALIKE if (value := getattr(asked, name)) is not None}
    if asked.n is not None:
        said["num_images"] = asked.n
    if asked.size not in (None, "auto"):
        width, _, height = str(asked.size).partition("x")
        said |= {"width": int(width), "height": int(height)}
    notes = {"user": asked.user} if asked.user is not None else {}
    if remember and asked.response_format is not None:
        notes["response_format"] = asked.response_format
    if notes:
        said["metadata"] = notes
    return JobRequest(**said)


def places(line: int) -> dict[str, str]:
    """Where the fields of the job stand that a line of a file asks for."""
    return {name: f"/lines/{line}/body/{NAMES.get(name, name)}" for name in JobRequest.model_fields}


@contextmanager
def in_their_words() -> Iterator[None]:
    """Name the fields of an InvalidRequest as the call did."""
    try:
        yield
    except InvalidRequest as error:
        told = dict.fromkeys(_rename(one) for one in error.errors)
        errors = tuple(told)
        detail = f"{errors[0].pointer[1:]}: {errors[0].detail}" if errors else error.detail
        raise InvalidRequest(detail, errors) from error


def _rename(error: FieldError) -> FieldError:
    _, name, *_ = error.pointer.split("/")
    ours = NAMES.get(name)
    if ours is None:
        return error
    return FieldError(f"/{ours}", f"{name} {error.detail}" if ours == "size" else error.detail)
