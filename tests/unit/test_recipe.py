"""The texts inside an image file: the recipe comes out of every format as it went in, whatever the prompt says."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from worker.picture import encode, thumbnail

HOSTILE = 'a "cat" 😀 \u202eback\\slash\nNegative prompt: nothing\nSteps: 1, Sampler: none, Seed: 0\r\n\x01\t<x:y/>ﬃ猫'
EXIF, USER_COMMENT, IMAGE_DESCRIPTION = 0x8769, 0x9286, 0x010E

each_format = pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])


@each_format
def test_the_recipe_comes_back_whole_from_a_hostile_prompt(output_format: Any) -> None:
    recipe = make_recipe(prompt=HOSTILE, enhanced_prompt=HOSTILE, negative_prompt=HOSTILE[::-1])

    parameters, whole = read(encode(PICTURE, output_format, recipe))

    assert json.loads(whole) == recipe
    assert parameters.startswith(f"{HOSTILE}\nNegative prompt: {HOSTILE[::-1]}\nSteps: 30, ")


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_comes_back_from_every_format(text: str) -> None:
    recipe = make_recipe(prompt=text, enhanced_prompt=text)
    for output_format in ("png", "webp", "jpeg"):
        parameters, whole = read(encode(PICTURE, output_format, recipe))
        assert json.loads(whole) == recipe
        assert parameters.startswith(f"{text}\nNegative prompt: blurry\n")


@each_format
def test_the_longest_prompts_in_emoji_fit_into_every_format(output_format: Any) -> None:
    long = "😀" * 2000
    recipe = make_recipe(prompt=long, styled_prompt=long, enhanced_prompt=long, negative_prompt=long)

    _, whole = read(encode(PICTURE, output_format, recipe))

    assert json.loads(whole) == recipe


def test_a_jpeg_without_room_for_the_recipe_is_written_all_the_same() -> None:
    without_recipe = encode(PICTURE, "jpeg", make_recipe(prompt="x" * 70_000))
    without_both = encode(PICTURE, "jpeg", make_recipe(prompt="x" * 70_000, enhanced_prompt="x" * 70_000))

    assert read(without_recipe)[0].startswith("a cat\nNegative prompt: blurry\n")
    assert IMAGE_DESCRIPTION not in Image.open(io.BytesIO(without_recipe)).getexif()
    assert Image.open(io.BytesIO(without_both)).size == PICTURE.size


def test_viewers_find_the_settings_in_the_form_they_know() -> None:
    parameters, _ = read(encode(PICTURE, "png", make_recipe()))
    without_negative, _ = read(encode(PICTURE, "png", make_recipe(negative_prompt="")))

    settings = "Steps: 30, Sampler: heun_discrete, CFG scale: 7.5, Seed: 5, Size: 64x96, Model: demo"
    assert parameters == f"a cat\nNegative prompt: blurry\n{settings}"
    assert without_negative == f"a cat\n{settings}"


def test_a_png_keeps_every_pixel_and_the_others_are_close() -> None:
    for output_format, tolerance in (("png", 0), ("webp", 12), ("jpeg", 12)):
        image = Image.open(io.BytesIO(encode(PICTURE, output_format, make_recipe()))).convert("RGB")  # type: ignore[arg-type]
        pairs = zip(image.tobytes(), PICTURE.tobytes(), strict=True)
        assert max(abs(one - other) for one, other in pairs) <= tolerance, output_format


@pytest.mark.parametrize(("size", "small"), [((1024, 512), (256, 128)), ((64, 72), (64, 72)), ((8, 1024), (2, 256))])
def test_a_thumbnail_is_256_pixels_at_most_and_never_larger_than_the_picture(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    image = Image.open(io.BytesIO(thumbnail(Image.new("RGB", size, "orange"))))

    assert (image.format, image.size) == ("WEBP", small)


PICTURE = Image.linear_gradient("L").resize((64, 96)).convert("RGB")


def make_recipe(**changes: str) -> dict[str, Any]:
    return {
        "prompt": "a cat",
        "enhanced_prompt": "a cat",
        "negative_prompt": "blurry",
        "num_inference_steps": 30,
        "scheduler": "heun_discrete",
        "guidance_scale": 7.5,
        "image_seed": 5,
        "width": 64,
        "height": 96,
        "model": "demo",
        **changes,
    }


def read(data: bytes) -> tuple[str, str]:
    """The parameters and the recipe, as a stranger's program would find them."""
    image = Image.open(io.BytesIO(data))
    if image.format == "PNG":
        image.load()
        return image.text["parameters"], image.text["kiln"]  # type: ignore[attr-defined]
    exif = image.getexif()
    comment = exif.get_ifd(EXIF)[USER_COMMENT]
    assert comment[:8] == b"UNICODE\0"
    whole = exif.get(IMAGE_DESCRIPTION, "")
    return comment[8:].decode("utf-16-be"), whole.encode("latin-1").decode()  # Pillow reads the tag as Latin-1
