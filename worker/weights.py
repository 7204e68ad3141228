"""A model registry entry in, its six parts loaded onto the device out. Reads weights from disk, safetensors only."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import structlog
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextModel,
    CLIPTokenizer,
    GPT2LMHeadModel,
    GPT2Tokenizer,
)

from common.errors import ModelNotLoadable
from common.jobs.spec import SchedulerName
from common.models import PARTS, ModelEntry, PartName
from worker.locate import Located, locate_part
from worker.parts import LAYOUTS, PartError, naming

log = structlog.get_logger()

LIBRARIES = ("kiln", "torch", "diffusers", "transformers")

_MODULES: dict[PartName, Any] = {
    "vae": AutoencoderKL,
    "unet": UNet2DConditionModel,
    "text_encoder": CLIPTextModel,
    "enhancer": GPT2LMHeadModel,
    "scorer": CLIPModel,
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """The calls for which a U-Net is compiled: pictures of one size, in so many rows."""

    size: tuple[int, int]  # width and height in pixels
    rows: frozenset[int]


@dataclass(frozen=True, slots=True)
class Model:
    """Everything one job needs, loaded once: only the device thread calls the modules."""

    name: str
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    enhancer: GPT2LMHeadModel
    enhancer_tokenizer: GPT2Tokenizer
    scorer: CLIPModel
    scorer_tokenizer: CLIPTokenizer
    scorer_processor: CLIPImageProcessorPil
    device: torch.device
    dtype: torch.dtype
    revisions: dict[str, str]  # part name -> hub commit, or "sha256:…" of a folder's files
    karras: tuple[SchedulerName, ...] = ()  # those that space noise levels as Karras et al. for this model
    compiled: Compiled | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        """What the recipe of every picture says of what paints it: weights, number format and libraries."""
        return {
            "model_revisions": dict(self.revisions),
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
            "versions": {library: version(library) for library in LIBRARIES},
        }


@dataclass(frozen=True, slots=True)
class Scorer:
    """The parts of a model that score, alone."""

    scorer: CLIPModel
    scorer_tokenizer: CLIPTokenizer
    scorer_processor: CLIPImageProcessorPil
    device: torch.device
    dtype: torch.dtype


def load_scorer(name: str, entry: ModelEntry, *, home: Path) -> Scorer:
    """The scorer of ``entry`` on the CPU, fetched into ``home`` when not yet there. Raises ModelNotLoadable."""
    _silence_libraries()
    device, dtype = torch.device("cpu"), torch.float32
    with naming(name, "scorer", entry.scorer):
        located = locate_part(name, "scorer", entry.scorer, home)
        return Scorer(**_load_part("scorer", located, device, dtype), device=device, dtype=dtype)


def load_model(
    name: str,
    entry: ModelEntry,
    *,
    home: Path,
    device: torch.device,
    dtype: torch.dtype,
    on_part: Callable[[PartName], None] | None = None,
) -> Model:
    """Load the six parts of ``entry`` for inference; those from a hub are fetched into ``home`` when not yet there.

    ``on_part`` hears of each part before it is fetched, checked and loaded. Raises ModelNotLoadable: one line that
    says which part, from where, and why.
    """
    _silence_libraries()
    began = time.monotonic()
    revisions: dict[str, str] = {}
    loaded: dict[str, Any] = {}
    for part in PARTS:
        if on_part is not None:
            on_part(part)
        with naming(name, part, entry.part(part)):
            located = locate_part(name, part, entry.part(part), home)
            revisions[part] = located.revision
            loaded |= _load_part(part, located, device, dtype)
    _check_fit(name, loaded)
    log.info("model_loaded", model=name, device=str(device), seconds=round(time.monotonic() - began, 2))
    return Model(name=name, **loaded, device=device, dtype=dtype, revisions=revisions, karras=entry.karras)


def _load_part(part: PartName, located: Located, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The fields of Model that ``part`` fills."""
    fields: dict[str, Any] = {}
    if part in _MODULES:
        fields[part] = _load_module(part, located.folder, dtype).to(device).eval().requires_grad_(False)
    if part == "tokenizer":
        fields["tokenizer"] = _from_folder(CLIPTokenizer, located.folder)
    if part == "enhancer":
        fields["enhancer_tokenizer"] = _from_folder(GPT2Tokenizer, located.folder)
    if part == "scorer":
        fields["scorer_tokenizer"] = _from_folder(CLIPTokenizer, located.folder)
        fields["scorer_processor"] = _from_folder(CLIPImageProcessorPil, located.folder)
    return fields


def _load_module(part: PartName, folder: Path, dtype: torch.dtype) -> Any:
    """One module with every weight from ``folder``: what its file lacks, the libraries would fill with noise."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("_class_name") or config.get("model_type")
    if kind not in LAYOUTS[part].kinds:
        raise PartError(f"config.json describes {kind!r}, not {' or '.join(LAYOUTS[part].kinds)}")
    with safe_open(folder / LAYOUTS[part].safetensors, framework="pt"):
        pass  # of a cut file safetensors says what is wrong; the libraries only that they cannot load it
    key = "torch_dtype" if "_class_name" in config else "dtype"  # diffusers' word, and transformers'
    module, report = _from_folder(
        _MODULES[part],
        folder,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **{key: dtype},
    )
    if report["mismatched_keys"]:
        weight, found, wanted = sorted(report["mismatched_keys"])[0]
        raise PartError(f"{weight} is {tuple(found)} in the weights and {tuple(wanted)} by config.json")
    if missing := sorted(report["missing_keys"]):
        raise PartError(f"the weights lack {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    return module


def _from_folder(cls: Any, folder: Path, **options: Any) -> Any:
    return cls.from_pretrained(str(folder), local_files_only=True, **options)


def _check_fit(name: str, loaded: dict[str, Any]) -> None:
    """Raise ModelNotLoadable where the parts do not work together: better now than in the first job."""
    unet, vae, text, enhancer = (loaded[part].config for part in ("unet", "vae", "text_encoder", "enhancer"))
    scorer = loaded["scorer"].config.text_config
    pairs = [
        ("the U-Net's cross_attention_dim", unet.cross_attention_dim, "the text encoder's width", text.hidden_size),
        ("the U-Net's in_channels", unet.in_channels, "the VAE's latent_channels", vae.latent_channels),
    ]
    for one, left, other, right in pairs:
        if left != right:
            raise ModelNotLoadable(f"model {name!r}: {one} is {left}, and {other} is {right}")
    vocabularies = [
        ("tokenizer", loaded["tokenizer"], text.vocab_size),
        ("enhancer's tokenizer", loaded["enhancer_tokenizer"], enhancer.vocab_size),
        ("scorer's tokenizer", loaded["scorer_tokenizer"], scorer.vocab_size),
    ]
    for one, tokenizer, size in vocabularies:
        if len(tokenizer) > size:
            raise ModelNotLoadable(f"model {name!r}: the {one} has {len(tokenizer)} tokens, its model knows {size}")


def _silence_libraries() -> None:
    """Keep their tables and bars out of the worker's log: what they warn of here is an error, or meant."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
