"""One picture's way from noise to pixels: a seed and a conditioning in, latents and then an image out."""

import torch
from PIL import Image

from common.errors import NumericalError
from common.jobs.spec import JobSpec
from worker.diffusion.schedules import make_scheduler
from worker.weights import Model

LATENT_FACTOR = 8  # pixels of a side per latent


class Sampling:
    """The state between two U-Net evaluations: scheduler, latents, and how many are behind. Belongs to one picture."""

    def __init__(self, model: Model, spec: JobSpec, context: torch.Tensor, seed: int) -> None:
        self._model = model
        self._context = context
        self._guidance_scale = spec.guidance_scale
        self._scheduler = make_scheduler(spec.scheduler)
        self._scheduler.set_timesteps(spec.num_inference_steps, device=model.device)
        self._at = 0
        self.latents = draw_noise(model, spec.width, spec.height, seed) * self._scheduler.init_noise_sigma

    @property
    def evaluations(self) -> int:
        """U-Net evaluations of the whole picture: Heun lists a timestep for each of its two stages."""
        return len(self._scheduler.timesteps)

    def step(self) -> None:
        """One U-Net evaluation with classifier-free guidance (Ho and Salimans, 2022), and the scheduler's update."""
        timestep = self._scheduler.timesteps[self._at]
        rows = torch.cat([self.latents] * len(self._context))
        rows = self._scheduler.scale_model_input(rows, timestep)
        noise = self._model.unet(rows, timestep, encoder_hidden_states=self._context).sample
        if len(self._context) == 2:
            negative, positive = noise.chunk(2)
            noise = negative + self._guidance_scale * (positive - negative)
        self.latents = self._scheduler.step(noise, timestep, self.latents).prev_sample
        self._at += 1


def draw_noise(model: Model, width: int, height: int, seed: int) -> torch.Tensor:
    """Standard normal latents (1, 4, height/8, width/8): drawn on the CPU in float32, the same for every device."""
    channels = model.unet.config.in_channels
    shape = (1, channels, height // LATENT_FACTOR, width // LATENT_FACTOR)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return noise.to(model.device, model.dtype)


def decode(model: Model, latents: torch.Tensor) -> Image.Image:
    """The VAE's picture of latents (1, 4, h, w), as RGB of 8h x 8w pixels. NumericalError for NaN or infinity."""
    if not torch.isfinite(latents).all():
        raise NumericalError("the latents became NaN or infinite")
    decoded = model.vae.decode(latents / model.vae.config.scaling_factor).sample
    if not torch.isfinite(decoded).all():
        raise NumericalError("the decoded picture has NaN or infinite pixels")
    pixels = (decoded[0].float() / 2 + 0.5).clamp(0, 1).mul(255).round()
    return Image.fromarray(pixels.to("cpu", torch.uint8).permute(1, 2, 0).numpy())
