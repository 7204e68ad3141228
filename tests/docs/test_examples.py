"""The README's examples, run as they stand there against a running Kiln."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.deployment import Kiln

README = Path(__file__).parents[2] / "README.md"


def example(language: str) -> str:
    """The README's tested block of this language."""
    found = re.findall(rf"<!-- tested: [^>]*-->\n```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert len(found) == 1, f"README has {len(found)} tested examples in {language}"
    return str(found[0])


def run(command: list[str], folder: Path, **variables: str) -> str:
    given = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
    ended = subprocess.run(
        command, cwd=folder, env=given | variables, capture_output=True, text=True, timeout=120, check=False
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
    run(["bash", "-euo", "pipefail", "-c", example("sh")], tmp_path, API=served.url, PATH=path)
    assert Image.open(tmp_path / "apple.png").size == (256, 256)


def test_the_python_example_keeps_the_best_picture(served: Kiln, tmp_path: Path) -> None:
    told = run([sys.executable, "-c", example("python")], tmp_path, KILN_API_URL=served.url)
    assert Image.open(tmp_path / "unicorn.png").size == (256, 256)
    assert "comic book panel of an astronaut riding a unicorn" in told
