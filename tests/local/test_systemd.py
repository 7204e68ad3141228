"""`kiln up --systemd`: a unit that systemd reads without a complaint, from a folder with what its syntax is about."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local.up import environment

ODD = 'a "night" of 100 %i, $HOME and \\x'


def kiln_up(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "client", "up", "--systemd", "--port", "8000", *arguments]
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def test_the_unit_starts_this_kiln_and_quotes_what_systemd_would_read_otherwise(tmp_path: Path) -> None:
    unit = kiln_up(tmp_path / ODD, "--model", "demo").stdout
    quoted = str(tmp_path / ODD).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    [command] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    home = f'"--home" "{quoted}/.kiln"'
    assert command == f'ExecStart="{sys.executable}" "-m" "client" "up" {home} "--port" "8000" "--model" "demo"'
    assert f"WorkingDirectory={tmp_path / ODD}".replace("%", "%%") in unit.splitlines()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on every machine")
@pytest.mark.parametrize("kind", ["--system", "--user"])
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path, kind: str) -> None:
    written = kiln_up(tmp_path / ODD, "--output", "units")
    assert written.returncode == 0, written.stderr
    (runtime := tmp_path / "runtime").mkdir(mode=0o700)
    command = ["systemd-analyze", kind, "verify", str(tmp_path / ODD / "units" / "kiln.service")]
    told = subprocess.run(
        command, env=os.environ | {"XDG_RUNTIME_DIR": str(runtime)}, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (0, "")


def test_a_path_that_no_unit_can_hold_is_refused(tmp_path: Path) -> None:
    refused = kiln_up(tmp_path, "--home", "two\nlines")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "control characters" in refused.stderr
