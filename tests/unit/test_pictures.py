"""Where pictures are saved: names that recall the prompt, and never over another file."""

from pathlib import Path
from typing import Any

import pytest

from client.errors import InvalidUse
from client.generate import agreed_format
from client.pictures import choose_target, save_picture
from common.names import slug


def image(index: int, sha256: str | None = "00") -> dict[str, Any]:
    return {"index": index, "content_type": "image/png", "sha256": sha256, "url": sha256 and "http://x"}


def job(*images: dict[str, Any]) -> dict[str, Any]:
    return {"id": "job_1", "images": list(images)}


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("An orange cat, staring off!", "an-orange-cat-staring-off"),
        ("Café à la crème", "cafe-a-la-creme"),
        ("../../etc/passwd", "etc-passwd"),
        ("猫", ""),
        ("x" * 500, "x" * 48),
    ],
)
def test_a_prompt_becomes_a_harmless_name(prompt: str, name: str) -> None:
    assert slug(prompt) == name


def test_a_folder_gets_pictures_named_by_prompt_and_index(tmp_path: Path) -> None:
    folder = tmp_path / "new folder"
    target = choose_target(str(folder), "a-cat")
    pair = job(image(0), image(3))
    saved = [save_picture(b"one", image(0), pair, target), save_picture(b"two", image(3), pair, target)]
    assert saved == [folder / "a-cat-0.png", folder / "a-cat-3.png"]
    assert [path.read_bytes() for path in saved] == [b"one", b"two"]


def test_another_picture_is_never_written_over(tmp_path: Path) -> None:
    target = choose_target(str(tmp_path), "a-cat")
    saved = [save_picture(content, image(0), job(image(0)), target) for content in (b"one", b"two", b"three")]
    assert [path.name for path in saved] == ["a-cat-0.png", "job_1-0.png", "job_1-0-2.png"]
    assert [path.read_bytes() for path in saved] == [b"one", b"two", b"three"]


def test_the_same_picture_is_saved_once(tmp_path: Path) -> None:
    target = choose_target(str(tmp_path), "a-cat")
    saved = [save_picture(b"one", image(0), job(image(0)), target) for _ in range(2)]
    assert saved[0] == saved[1]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_prompt_without_letters_falls_back_to_the_id(tmp_path: Path) -> None:
    assert save_picture(b"one", image(0), job(image(0)), choose_target(str(tmp_path), "")).name == "job_1-0.png"


def test_a_named_file_holds_the_only_picture(tmp_path: Path) -> None:
    target = choose_target(str(tmp_path / "cat.PNG"), "slug")
    assert target.output_format == "png"
    dropped = image(1, sha256=None)
    assert save_picture(b"one", image(0), job(image(0), dropped), target) == tmp_path / "cat.PNG"


def test_a_named_file_is_numbered_for_several_pictures(tmp_path: Path) -> None:
    target = choose_target(str(tmp_path / "cat.png"), "slug")
    assert save_picture(b"one", image(1), job(image(0), image(1)), target) == tmp_path / "cat-1.png"


def test_a_named_file_that_exists_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"old")
    with pytest.raises(InvalidUse, match="exists already"):
        choose_target(str(tmp_path / "cat.png"), "slug")
    assert (tmp_path / "cat.png").read_bytes() == b"old"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidUse, match="cannot be made"):
        choose_target(str(tmp_path / "file" / "below"), "slug")


def test_a_name_chooses_the_format_and_must_agree_with_it(tmp_path: Path) -> None:
    target = choose_target(str(tmp_path / "cat.jpg"), "slug")
    assert agreed_format(None, target) == "jpeg"
    with pytest.raises(InvalidUse, match=r"cat\.jpg"):
        agreed_format("webp", target)
    assert agreed_format("webp", choose_target(str(tmp_path), "slug")) == "webp"
    assert agreed_format(None, None) is None
