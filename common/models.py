"""The model registry's vocabulary: which parts make a model, and where each comes from. Pure data, no torch."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from common.jobs.spec import SchedulerName

PartName = Literal["vae", "unet", "text_encoder", "tokenizer", "enhancer", "scorer"]

PARTS: tuple[PartName, ...] = ("vae", "unet", "text_encoder", "tokenizer", "enhancer", "scorer")

DEMO_WEIGHTS = Path(__file__).parent.parent / "demo" / "weights"


class ModelPart(BaseModel):
    """One separately loadable part: a Hugging Face hub id, or a local folder in the same layout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="hub id such as CompVis/stable-diffusion-v1-4, or a folder")
    subfolder: str = ""
    revision: str = Field(default="main", description="branch, tag or commit on the hub; ignored for a folder")


class ModelEntry(BaseModel):
    """One model that jobs can name: its six parts, and the defaults that suit it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vae: ModelPart
    unet: ModelPart
    text_encoder: ModelPart
    tokenizer: ModelPart
    enhancer: ModelPart
    scorer: ModelPart
    width: int = Field(default=512, description="pixels; the default of jobs that name none")
    height: int = 512
    num_inference_steps: int = 250
    guidance_scale: float = 7.5
    karras: tuple[SchedulerName, ...] = Field(
        default=(), description="the schedulers that space noise levels as Karras et al. 2022 for this model"
    )
    description: str = ""

    def part(self, name: PartName) -> ModelPart:
        part = getattr(self, name)
        assert isinstance(part, ModelPart)  # noqa: S101 - tells mypy what PartName already guarantees
        return part


_SD_V1_4 = "CompVis/stable-diffusion-v1-4"

BUILT_IN: dict[str, ModelEntry] = {
    "sd-v1-4": ModelEntry(
        vae=ModelPart(source=_SD_V1_4, subfolder="vae"),
        unet=ModelPart(source=_SD_V1_4, subfolder="unet"),
        text_encoder=ModelPart(source="openai/clip-vit-large-patch14"),
        tokenizer=ModelPart(source="openai/clip-vit-large-patch14"),
        enhancer=ModelPart(source="Gustavosta/MagicPrompt-Stable-Diffusion"),
        scorer=ModelPart(source="openai/clip-vit-base-patch16"),
        description="Stable Diffusion v1-4 with MagicPrompt and CLIP B/16",
    ),
    "demo": ModelEntry(
        vae=ModelPart(source=str(DEMO_WEIGHTS), subfolder="vae"),
        unet=ModelPart(source=str(DEMO_WEIGHTS), subfolder="unet"),
        text_encoder=ModelPart(source=str(DEMO_WEIGHTS), subfolder="text_encoder"),
        tokenizer=ModelPart(source=str(DEMO_WEIGHTS), subfolder="tokenizer"),
        enhancer=ModelPart(source=str(DEMO_WEIGHTS), subfolder="enhancer"),
        scorer=ModelPart(source=str(DEMO_WEIGHTS), subfolder="scorer"),
        width=256,
        height=256,
        num_inference_steps=20,
        guidance_scale=4.0,  # above it colors burn and blocks melt
        karras=("lms_discrete",),  # in 20 even steps it overshoots: some prompts end as noise
        description="A toy of a few megabytes in Stable Diffusion's layout, trained on a drawn world",
    ),
}
