"""JobSpec: one request with every default resolved and its seed chosen. Frozen; hashed for reuse; stored as JSON."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

SchedulerName = Literal["lms_discrete", "heun_discrete", "dpm_solver_multistep"]
OutputFormat = Literal["png", "webp", "jpeg"]

SCHEDULERS: tuple[SchedulerName, ...] = ("lms_discrete", "heun_discrete", "dpm_solver_multistep")
OUTPUT_FORMATS: tuple[OutputFormat, ...] = ("png", "webp", "jpeg")

MAX_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything that decides the pixels of a job, and nothing else: when and for whom it runs stands in the row."""

    prompt: str
    negative_prompt: str
    style: str
    enhance: bool
    model: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: SchedulerName
    seed: int
    num_images: int
    keep_best: int | None
    output_format: OutputFormat

    @property
    def evaluations(self) -> int:
        """U-Net evaluations of the whole job: the unit of progress, cost and ETA."""
        return self.num_images * evaluations(self.scheduler, self.num_inference_steps)

    def image_seed(self, index: int) -> int:
        """Seed of picture ``index``: consecutive, so that any one picture can be asked for alone."""
        return (self.seed + index) % (MAX_SEED + 1)

    def to_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "JobSpec":
        return cls(**data)

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: equal digests ask for equal pixels."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def evaluations(scheduler: SchedulerName, steps: int) -> int:
    """U-Net evaluations of one picture: Heun, a two-stage method, makes 2N-1 for N steps, the others N."""
    return 2 * steps - 1 if scheduler == "heun_discrete" else steps
