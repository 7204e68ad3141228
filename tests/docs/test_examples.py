"""The examples of README and docs/evening.md, run as they stand there against a running Kiln."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.deployment import Kiln

README = Path(__file__).parents[2] / "README.md"
EVENING = README.with_name("docs") / "evening.md"


def example(language: str, page: Path = README, *, of: str = "") -> str:
    """The page's tested block of this language, in which ``of`` is named."""
    blocks = re.findall(rf"<!-- tested: [^>]*-->\n```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    found = [block for block in blocks if of in block]
    assert len(found) == 1, f"{page.name} has {len(found)} tested examples of {of} in {language}"
    return str(found[0])


def run(command: list[str], folder: Path, **variables: str) -> str:
    given = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
    ended = subprocess.run(
        command, cwd=folder, env=given | variables, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_curl_example_fetches_a_picture(served: Kiln, tmp_path: Path) -> None:
    path = os.environ["PATH"]
    if not shutil.which("curl"):  # a plain Debian has none: Python plays the few options that the example uses
        stand_in = tmp_path / "bin" / "curl"
        stand_in.parent.mkdir()
        stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("curl.py")}" "$@"\n')
        stand_in.chmod(0o755)
        path = f"{stand_in.parent}:{path}"
    told = run(["bash", "-euo", "pipefail", "-c", example("sh")], tmp_path, API=served.url, PATH=path)
    assert "event: succeeded" in told
    assert Image.open(tmp_path / "apple.png").size == (256, 256)


def test_the_python_example_keeps_the_best_picture(served: Kiln, tmp_path: Path) -> None:
    told = run([sys.executable, "-c", example("python", of="Kiln()")], tmp_path, KILN_API_URL=served.url)
    assert Image.open(tmp_path / "unicorn.png").size == (256, 256)
    assert "comic book panel of an astronaut riding a unicorn" in told


def test_the_example_of_openai_s_client_paints_a_picture(served: Kiln, tmp_path: Path) -> None:
    told = run([sys.executable, "-c", example("python", of="OpenAI(")], tmp_path, KILN_API_URL=served.url)
    assert Image.open(tmp_path / "house.png").size == (256, 256)
    assert "a house in the snow" in told


@pytest.mark.timeout(660)
def test_the_evening_s_forty_prompts_become_pictures_and_a_report(served: Kiln, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = example("sh", EVENING)
    told = run(["bash", "-euo", "pipefail", "-c", script], tmp_path, KILN_API_URL=served.url, PATH=path)
    assert "40 jobs, 40 pictures, 80 evaluations" in told
    assert "completed: 40 succeeded" in told
    assert "To run again" not in (tmp_path / "morning.html").read_text(encoding="utf-8")
    assert "40 saved, 0 were there already" in told
    assert "0 saved, 40 were there already" in told
    assert len(list((tmp_path / "pictures").iterdir())) == 40


def test_the_evening_s_table_of_errors_is_what_the_command_says(served: Kiln, tmp_path: Path) -> None:
    files = {
        "nocolumn.csv": "style\nanime\n",
        "style.csv": "prompt,style\n" + "a cat,anime\n" * 15 + "a cat,baroque\n",
        "empty.csv": "",
        "good.csv": "prompt\na cat\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    tries = [
        "nocolumn.csv", "style.csv", "empty.csv", "good.csv --window 22:00-22:00",
        "good.csv --window 22:00-06:00 --tz Europe/Atlantis", "good.csv --deadline 2001-01-01T00:00:00Z",
        "good.csv --seeds 2 --keep-best 3",
    ]  # fmt: skip
    table = EVENING.read_text(encoding="utf-8").partition("## What can be wrong")[2]
    promised = re.findall(r"^\| .* \| `(.*)` \|$", table, re.M)
    for asked, says in zip(tries, promised, strict=True):
        command = [sys.executable, "-m", "client", "batch", "run", *asked.split()]
        given = os.environ | {"KILN_API_URL": served.url}
        done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(says.removesuffix("…").rstrip()), asked
