"""A picture and its recipe in, the bytes of an image file out, with the recipe readable inside. Pure."""

import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from common.jobs.spec import OutputFormat

CONTENT_TYPES: dict[OutputFormat, str] = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}

THUMBNAIL_SIDE = 256  # pixels of the longer side

_USER_COMMENT = 0x9286  # EXIF 2.3, in the EXIF IFD: where viewers look for generation parameters
_EXIF_IFD = 0x8769
_IMAGE_DESCRIPTION = 0x010E
_JPEG_EXIF_BYTES = 65_533  # a JPEG segment counts its bytes, and the two of the count, in sixteen bits


def encode(image: Image.Image, output_format: OutputFormat, recipe: Mapping[str, Any]) -> bytes:
    """The file's bytes. PNG has the texts ``parameters`` (as AUTOMATIC1111 writes them) and ``kiln`` (the recipe as
    JSON) in iTXt; WebP and JPEG have the same two in EXIF's UserComment and ImageDescription. Where prompts are so
    long that a JPEG has no room for both, it goes without the recipe, or without both: the job's row has it."""
    parameters, whole = describe(recipe), json.dumps(recipe, ensure_ascii=False)
    buffer = io.BytesIO()
    if output_format == "png":
        texts = PngInfo()
        texts.add_itxt("parameters", parameters)
        texts.add_itxt("kiln", whole)
        image.save(buffer, "PNG", pnginfo=texts, compress_level=1)
    else:
        blocks = _exif(parameters, whole)
        if output_format == "jpeg":
            blocks = [block for block in blocks if len(block) <= _JPEG_EXIF_BYTES]
        image.save(buffer, output_format.upper(), quality=95, exif=blocks[0] if blocks else b"")
    return buffer.getvalue()


def thumbnail(image: Image.Image) -> bytes:
    """A WebP of at most 256 pixels a side."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()


def describe(recipe: Mapping[str, Any]) -> str:
    """The text that picture viewers of this field read: prompt, negative prompt, and a line of settings."""
    settings = {
        "Steps": recipe["num_inference_steps"],
        "Sampler": recipe["scheduler"],
        "CFG scale": recipe["guidance_scale"],
        "Seed": recipe["image_seed"],
        "Size": f"{recipe['width']}x{recipe['height']}",
        "Model": recipe["model"],
    }
    line = ", ".join(f"{name}: {value}" for name, value in settings.items())
    negative = [f"Negative prompt: {recipe['negative_prompt']}"] if recipe["negative_prompt"] else []
    return "\n".join([recipe["enhanced_prompt"], *negative, line])


def _exif(parameters: str, whole: str) -> list[bytes]:
    """EXIF with both texts, then with ``parameters`` alone. The tag ImageDescription takes UTF-8, as the Metadata
    Working Group's guidelines (2010) ask: escaped to ASCII, a long prompt in emoji would not fit."""
    exif = Image.Exif()
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be")
    alone = exif.tobytes()
    exif[_IMAGE_DESCRIPTION] = whole.encode()
    return [exif.tobytes(), alone]
