"""A scheduler's name in, diffusers' own scheduler out, set up as Stable Diffusion v1 was trained. Pure."""

from typing import Any

from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler, LMSDiscreteScheduler

from common.jobs.spec import SchedulerName

# The noise schedule of Stable Diffusion v1 (Rombach et al., 2022; the hub's scheduler_config.json)
_TRAINED_WITH = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
}


def make_scheduler(name: SchedulerName) -> Any:
    """A new scheduler: stateful and not thread-safe, so one for each picture. Everything else is diffusers' default."""
    match name:
        case "lms_discrete":
            return LMSDiscreteScheduler(**_TRAINED_WITH)
        case "heun_discrete":
            return HeunDiscreteScheduler(**_TRAINED_WITH)
        case "dpm_solver_multistep":
            return DPMSolverMultistepScheduler(**_TRAINED_WITH, solver_order=2)
