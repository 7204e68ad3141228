"""A request in, a Submission out with every default resolved and its seed chosen; InvalidRequest names each field."""

import hashlib
import json
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from api.schemas import JobRequest
from api.views import wanted
from common.errors import FieldError, InvalidRequest
from common.jobs.read import Job
from common.jobs.spec import MAX_SEED, OUTPUT_FORMATS, SCHEDULERS, JobSpec
from common.jobs.state import Lane
from common.jobs.submit import Submission
from common.models import ModelEntry
from common.reach import Reach, Target
from common.settings import Settings
from common.styles import DEFAULT_NEGATIVE_PROMPT, DEFAULT_STYLE, STYLES, resolve_style

# Control characters (Unicode's Cc, NUL among them) and lone surrogates (Cs); line breaks and tabs are harmless
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

MAX_PRIORITY = 1000
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512


def defaults(settings: Settings, model: str) -> dict[str, Any]:
    """What a job of ``model`` gets for each field that it leaves out; a seed of None is chosen at submit."""
    entry = settings.registry[model]
    return {
        "negative_prompt": DEFAULT_NEGATIVE_PROMPT,
        "style": DEFAULT_STYLE,
        "enhance": True,
        "model": model,
        "width": entry.width,
        "height": entry.height,
        "num_inference_steps": entry.num_inference_steps,
        "guidance_scale": entry.guidance_scale,
        "scheduler": "dpm_solver_multistep",
        "seed": None,
        "num_images": 1,
        "keep_best": None,
        "output_format": "png",
        "lane": Lane.INTERACTIVE,
        "priority": 0,
        "not_before": None,
        "deadline": None,
        "metadata": {},
        "webhook": None,
        "reuse": True,
    }


def resolve(
    request: JobRequest,
    settings: Settings,
    *,
    owner: str,
    idempotency_key: str | None = None,
    retried_from: UUID | None = None,
) -> Submission:
    """The job that ``request`` asks for. Raises InvalidRequest with every field that is wrong, not the first alone."""
    model = request.model or settings.model
    model_entry(settings, model)
    asked = {name: value for name, value in request.model_dump().items() if value is not None}
    values = defaults(settings, model) | asked
    for name in ("prompt", "negative_prompt"):
        values[name] = normalize(values[name], settings)
    reach = Reach(settings.webhook_allow)
    webhook, unwanted = read_webhook(values["webhook"], "/webhook/url", reach)
    errors = [*_check_texts(values, settings), *_check_numbers(values, settings), *_check_times(values), *unwanted]
    if errors:
        raise InvalidRequest(f"{errors[0].pointer[1:]} {errors[0].detail}", tuple(errors))
    values["style"] = resolve_style(values["style"])
    if values["seed"] is None:
        values["seed"] = secrets.randbelow(MAX_SEED + 1)
    spec = JobSpec(**{name: values[name] for name in JobSpec.__dataclass_fields__})
    _check_cost(spec, settings.max_cost)
    return Submission(
        owner=owner,
        spec=spec,
        fingerprint=fingerprint(request) if idempotency_key else "",
        lane=Lane(values["lane"]),
        priority=values["priority"],
        not_before=values["not_before"],
        deadline=values["deadline"],
        metadata=values["metadata"],
        idempotency_key=idempotency_key,
        retried_from=retried_from,
        webhook=webhook,
        reuse=values["reuse"],
    )


def ask_again(job: Job) -> dict[str, Any]:
    """The request that asks for ``job`` once more, seed included; not its times. Once more means painted anew."""
    again = {"lane": job.lane, "priority": job.priority, "metadata": dict(job.metadata), "reuse": False}
    told = {"webhook": wanted(job.webhook)} if job.webhook else {}
    return job.spec.to_json() | again | told


def model_entry(settings: Settings, model: str) -> ModelEntry:
    """The registry's entry. Raises InvalidRequest that lists the known models."""
    unknown = _one_of("model", model, list(settings.registry))
    if unknown:
        raise InvalidRequest(unknown[0].detail, tuple(unknown))
    return settings.registry[model]


def fingerprint(request: BaseModel) -> str:
    """A hash of what was sent: equal for the same request, whatever its defaults become."""
    sent = request.model_dump(mode="json", exclude_unset=True)
    return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()


def _check_texts(values: dict[str, Any], settings: Settings) -> list[FieldError]:
    errors = [
        *check_prompt(values["prompt"], settings),
        *plain_text("negative_prompt", values["negative_prompt"], settings.max_prompt_characters),
        *_one_of("style", values["style"], list(STYLES), known=resolve_style(values["style"]) is not None),
        *_one_of("scheduler", values["scheduler"], SCHEDULERS),
        *_one_of("output_format", values["output_format"], OUTPUT_FORMATS),
        *_one_of("lane", values["lane"], list(Lane)),
    ]
    return errors + check_metadata(values["metadata"], settings)


def normalize(text: str, settings: Settings) -> str:
    """The text in NFC. What is too long in any form stays as it is: four characters become one, at most."""
    return text if len(text) > 4 * settings.max_prompt_characters else unicodedata.normalize("NFC", text)


def check_prompt(prompt: str, settings: Settings) -> list[FieldError]:
    errors = plain_text("prompt", prompt, settings.max_prompt_characters)
    if not prompt.strip():
        errors.append(FieldError("/prompt", "must not be empty"))
    return errors


def check_seed(seed: int) -> list[FieldError]:
    return _within("seed", seed, 0, MAX_SEED)


def check_metadata(metadata: Mapping[str, str], settings: Settings) -> list[FieldError]:
    """What is wrong with the pairs that a user wants kept with a job or a batch."""
    errors = []
    if len(metadata) > settings.max_metadata:
        return [FieldError("/metadata", f"must have at most {settings.max_metadata} pairs")]
    for key, value in metadata.items():
        errors += plain_text("metadata", key, MAX_METADATA_KEY)
        errors += plain_text(f"metadata/{key[:80].replace('~', '~0').replace('/', '~1')}", value, MAX_METADATA_VALUE)
    return errors


def _check_numbers(values: dict[str, Any], settings: Settings) -> list[FieldError]:
    errors = [
        *_side("width", values["width"], settings),
        *_side("height", values["height"], settings),
        *_within("num_inference_steps", values["num_inference_steps"], 1, settings.max_steps),
        *_within("guidance_scale", values["guidance_scale"], 0, settings.max_guidance),
        *_within("num_images", values["num_images"], 1, settings.max_images),
        *_within("priority", values["priority"], -MAX_PRIORITY, MAX_PRIORITY),
    ]
    if values["seed"] is not None:
        errors += check_seed(values["seed"])
    if values["keep_best"] is not None:
        errors += _within("keep_best", values["keep_best"], 1, values["num_images"])
    if not errors and values["width"] * values["height"] > settings.max_pixels:
        errors.append(FieldError("/width", f"times height must be at most {settings.max_pixels} pixels"))
    return errors


def read_webhook(
    asked: Mapping[str, Any] | None, pointer: str, reach: Reach
) -> tuple[dict[str, Any] | None, list[FieldError]]:
    """A webhook as it is kept; and what is wrong with its URL, which stands at ``pointer``."""
    if asked is None:
        return None, []
    if wrong := reach.refuses_url(asked["url"]):
        return None, [FieldError(pointer, wrong)]
    host = Target.from_url(asked["url"]).authority  # whose answers are waited for together
    return {"url": asked["url"], "host": host, "events": list(dict.fromkeys(asked["events"]))}, []


def check_deadline(deadline: datetime | None) -> list[FieldError]:
    late = deadline is not None and deadline <= datetime.now(UTC)
    return [FieldError("/deadline", "must be in the future")] if late else []


def _check_times(values: dict[str, Any]) -> list[FieldError]:
    deadline, not_before = values["deadline"], values["not_before"]
    if deadline is None:
        return []
    if late := check_deadline(deadline):
        return late
    if not_before is not None and deadline <= not_before:
        return [FieldError("/deadline", "must be after not_before")]
    return []


def _check_cost(spec: JobSpec, most: int) -> None:
    """Raise InvalidRequest where the job's pixels times U-Net evaluations, over all its pictures, are too many."""
    cost = spec.width * spec.height * spec.evaluations
    if cost > most:
        reckoned = (
            f"{cost}: width x height x num_images x {spec.evaluations // spec.num_images} "
            f"evaluations of num_inference_steps; it may cost {most}"
        )
        fields = ("width", "height", "num_images", "num_inference_steps")
        errors = tuple(FieldError(f"/{field}", f"makes the job cost {reckoned}") for field in fields)
        raise InvalidRequest(f"the job costs {reckoned}", errors)


def plain_text(field: str, text: str, longest: int) -> list[FieldError]:
    """What is wrong with a text of at most ``longest`` characters."""
    errors = []
    if len(text) > longest:
        errors.append(FieldError(f"/{field}", f"must have at most {longest} characters; it has {len(text)}"))
    if bad := _UNPRINTABLE.search(text):
        errors.append(FieldError(f"/{field}", f"must not contain the control character U+{ord(bad[0]):04X}"))
    return errors


def _side(field: str, pixels: int, settings: Settings) -> list[FieldError]:
    if pixels % 8:
        return [FieldError(f"/{field}", "must be divisible by 8")]
    return _within(field, pixels, settings.min_side, settings.max_side)


def _within(field: str, value: float, least: float, most: float) -> list[FieldError]:
    return [] if least <= value <= most else [FieldError(f"/{field}", f"must be from {least:g} to {most:g}")]


def _one_of(field: str, value: str, choices: Sequence[str], *, known: bool | None = None) -> list[FieldError]:
    if value in choices or known:
        return []
    return [FieldError(f"/{field}", f"{value[:80]!r} is not known; known: {', '.join(choices)}")]
