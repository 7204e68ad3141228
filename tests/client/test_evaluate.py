"""`kiln eval` on the running stack: the notebook's tables, with the demo model."""

import json
from typing import Any

from tests.client.conftest import Command


def test_each_picture_of_the_first_table_fits_its_own_prompt_best(kiln: Command) -> None:
    done = kiln("eval", "prompt-diversity", "--steps", "20", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [row["name"].split()[-1] for row in told["rows"]] == ["table", "dawn", "space", "eyes"]
    assert [row["published"] for row in told["rows"]] == [None] * 4, "published for another model"
    for place, column in enumerate(zip(*told["matrix"], strict=True)):
        assert max(column) == column[place], told["matrix"]
    assert files(kiln, told) == {"report.html", "table.md", *(row["picture"] for row in told["rows"])}
    assert (
        "![a misty forest at dawn](a-misty-forest-at-dawn-1.png)"
        in (kiln.folder / told["folder"] / "table.md").read_text()
    )


def test_the_second_table_has_a_row_for_each_style_and_the_spread_of_its_seeds(kiln: Command) -> None:
    done = kiln("eval", "style-variation", "--steps", "2", "--seeds", "2", "--output", "styles", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [row["name"] for row in told["rows"]] == ["photographic", "cinematic", "anime", "line art", "van gogh"]
    assert all(row["deviation"] > 0 for row in told["rows"])
    assert len(files(kiln, told)) == 2 + 10


def test_what_the_api_refuses_is_told_and_nothing_is_painted(kiln: Command) -> None:
    done = kiln("eval", "prompt-diversity", "--model", "nobody", "--output", "none")
    assert done.returncode == 2
    assert "nobody" in done.stderr


def files(kiln: Command, told: dict[str, Any]) -> set[str]:
    return {file.name for file in (kiln.folder / told["folder"]).iterdir()}
