"""A scheduler's name in, its numbers out: as diffusers' own object, or as a table of coefficients. Pure."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler, LMSDiscreteScheduler

from common.jobs.spec import SchedulerName

SAMPLES, OUTPUTS = 2, 4  # how many earlier samples and model outputs an update may look back on, with the present ones
_NEGLIGIBLE = 1e-6

# The noise schedule of Stable Diffusion v1 (Rombach et al., 2022; the hub's scheduler_config.json)
_TRAINED_WITH = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
}


def make_scheduler(name: SchedulerName, karras: bool = False) -> Any:
    """A new scheduler: stateful and not thread-safe, so one for each picture. Everything else is diffusers' default.

    With ``karras``, the noise levels are spaced as in Karras et al. 2022, arXiv:2206.00364, equation 5.
    """
    options = _TRAINED_WITH | {"use_karras_sigmas": karras}
    match name:
        case "lms_discrete":
            return LMSDiscreteScheduler(**options)
        case "heun_discrete":
            return HeunDiscreteScheduler(**options)
        case "dpm_solver_multistep":
            return DPMSolverMultistepScheduler(**options, solver_order=2)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A schedule as numbers: what each of its n U-Net evaluations is given, and what is made of the answer.

    x[i+1] = samples[i] · (x[i], x[i-1]) + outputs[i] · (e[i], e[i-1], e[i-2], e[i-3]), where e[i] is the U-Net's
    answer to scale[i] · x[i] at timesteps[i], and x[0] is noise of deviation ``noise``.
    """

    timesteps: torch.Tensor  # (n,)
    scale: torch.Tensor  # (n,)
    samples: torch.Tensor  # (n, SAMPLES)
    outputs: torch.Tensor  # (n, OUTPUTS)
    noise: float

    def __len__(self) -> int:
        return len(self.timesteps)


@lru_cache(maxsize=256)
def plot_course(name: SchedulerName, steps: int, karras: bool = False) -> Course:
    """The course of ``steps`` steps, read off the stock scheduler. ValueError for one that is not linear and short.

    LMS, Heun and DPM++ are linear in samples and outputs. So the scheduler is shown, in place of pictures, one unit
    vector for every sample and one for every output: what it makes of them are its coefficients.
    """
    scheduler = make_scheduler(name, karras)
    scheduler.set_timesteps(steps)
    count = len(scheduler.timesteps)
    units = torch.eye(2 * count)
    scale, made = torch.empty(count), torch.empty(count, 2 * count)
    for i, timestep in enumerate(scheduler.timesteps):
        scale[i] = scheduler.scale_model_input(units[i], timestep)[i]
        made[i] = scheduler.step(units[count + i], timestep, units[i]).prev_sample
    samples, outputs = _look_back(made[:, :count], SAMPLES), _look_back(made[:, count:], OUTPUTS)
    if (made.abs().sum() - samples.abs().sum() - outputs.abs().sum()) > _NEGLIGIBLE * count:
        raise ValueError(f"{name} looks back further than {SAMPLES} samples and {OUTPUTS} outputs")
    return Course(scheduler.timesteps.float(), scale, samples, outputs, float(scheduler.init_noise_sigma))


def _look_back(made: torch.Tensor, reach: int) -> torch.Tensor:
    """Of each row i of (n, n) the entries i, i-1, … back to ``reach`` of them: (n, reach), 0 before the first."""
    padded = torch.nn.functional.pad(made, (reach - 1, 0))
    columns = torch.arange(len(made))[:, None] + reach - 1 - torch.arange(reach)
    return padded.gather(1, columns)
