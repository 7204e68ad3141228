"""A part's name and the files of its folder in, the files it consists of out. Pure: no torch, no disk, no network."""

import textwrap
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.errors import ModelNotLoadable
from common.models import ModelPart, PartName

TOKENIZER_NEEDED = ("vocab.json", "merges.txt")
TOKENIZER_OPTIONAL = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json")

LONGEST_REASON = 400  # characters


class PartError(Exception):
    """Why one part cannot be used. Becomes ModelNotLoadable where the model and the part are known."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one part is published: what its config.json calls it, and the names of its files."""

    kinds: tuple[str, ...] = ()
    needed: tuple[str, ...] = ("config.json",)
    optional: tuple[str, ...] = ()
    safetensors: str = ""
    pickle: str = ""


_DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")

LAYOUTS: dict[PartName, Layout] = {
    "vae": Layout(("AutoencoderKL",), ("config.json",), (), *_DIFFUSERS),
    "unet": Layout(("UNet2DConditionModel",), ("config.json",), (), *_DIFFUSERS),
    # A whole CLIP repository will do: the text part is taken out of it.
    "text_encoder": Layout(("clip_text_model", "clip"), ("config.json",), (), *_TRANSFORMERS),
    "tokenizer": Layout((), TOKENIZER_NEEDED, TOKENIZER_OPTIONAL),
    "enhancer": Layout(
        ("gpt2",),
        ("config.json", *TOKENIZER_NEEDED),
        ("generation_config.json", *TOKENIZER_OPTIONAL),
        *_TRANSFORMERS,
    ),
    "scorer": Layout(
        ("clip",),
        ("config.json", "preprocessor_config.json", *TOKENIZER_NEEDED),
        TOKENIZER_OPTIONAL,
        *_TRANSFORMERS,
    ),
}


def choose_files(part: PartName, names: Collection[str]) -> list[str]:
    """The files of ``part`` among the ``names`` of its folder, its weights last; safetensors before a pickle.

    Variants (fp16, ema), other frameworks' weights, and whatever else is published beside them are left out.
    Raises PartError when something is missing.
    """
    layout = LAYOUTS[part]
    missing = [name for name in layout.needed if name not in names]
    if missing:
        raise PartError(f"there is no {' and no '.join(missing)}")
    chosen = [name for name in (*layout.optional, *layout.needed) if name in names]
    if layout.safetensors:
        weights = next((name for name in (layout.safetensors, layout.pickle) if name in names), None)
        if weights is None:
            raise PartError(f"there is no {layout.safetensors}")
        chosen.append(weights)
    return chosen


@contextmanager
def naming(model: str, part: PartName, origin: ModelPart) -> Iterator[None]:
    """Turn whatever goes wrong inside into ModelNotLoadable with the one line that an operator reads."""
    try:
        yield
    except ModelNotLoadable:
        raise
    except Exception as error:  # the libraries raise a dozen classes; each means that this part cannot be used
        raise ModelNotLoadable(f"model {model!r}: cannot load {part} from {where(origin)}: {why(error)}") from error


def where(origin: ModelPart) -> str:
    """The place a part comes from, as a person says it."""
    details = [f"subfolder {origin.subfolder}"] if origin.subfolder else []
    details += [f"revision {origin.revision}"] if origin.revision != "main" else []
    return origin.source + (f" ({', '.join(details)})" if details else "")


def why(error: Exception) -> str:
    """What an error says, as one line; the libraries write paragraphs, the cause near their beginning."""
    text = textwrap.shorten(str(error), LONGEST_REASON, placeholder=" ...") or type(error).__name__
    return text if isinstance(error, PartError) else f"{type(error).__name__}: {text}"
