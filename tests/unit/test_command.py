"""The `kiln` executable without any server: its help, its start, and what it says when nobody answers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from client.main import app
from common.ids import parse_id

KILN = Path(sys.executable).with_name("kiln")
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing of ours listens there
COMMANDS = [command.name for command in app.registered_commands]


def kiln(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KILN_API_URL": NOBODY, "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run([KILN, *arguments], capture_output=True, text=True, env=environment, cwd=folder, timeout=20)


def test_help_lists_the_commands_and_the_exit_codes(tmp_path: Path) -> None:
    done = kiln("--help", folder=tmp_path)
    assert done.returncode == 0
    assert all(f" {command} " in done.stdout for command in COMMANDS)
    assert "Exit codes: 0 done; 1 the job failed" in done.stdout


def test_every_command_helps_with_an_example(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    for command in COMMANDS:
        told = CliRunner().invoke(app, [str(command), "--help"], terminal_width=200).output
        assert f"Example: kiln {command}" in told, told


def test_every_id_of_an_example_is_one_that_there_could_be() -> None:
    from typer.testing import CliRunner

    commands = [[str(command)] for command in COMMANDS]
    for group in app.registered_groups:
        assert group.typer_instance
        commands += [[str(group.name), str(one.name)] for one in group.typer_instance.registered_commands]
    told = "".join(CliRunner().invoke(app, [*one, "--help"], terminal_width=200).output for one in commands)
    shown = re.findall(r"\b([a-z]+)_([0-9a-f]{8,})", told)
    assert len(shown) > 8
    for prefix, digits in shown:
        parse_id(prefix, f"{prefix}_{digits}")


def test_the_command_starts_without_heavy_modules() -> None:
    heavy = ["torch", "diffusers", "transformers", "numpy", "sqlalchemy", "celery", "boto3", "fastapi", "pydantic"]
    code = f"import sys, client.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("command", [["generate", "a cat"], ["jobs"], ["show", "job_1"], ["cancel", "job_1"]])
def test_an_api_that_is_away_is_told_with_what_to_do_and_exits_3(command: list[str], tmp_path: Path) -> None:
    done = kiln(*command, folder=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert f"Nobody answers at {NOBODY}. Start Kiln with `kiln up`" in done.stderr


def test_with_json_an_error_is_one_document_too(tmp_path: Path) -> None:
    done = kiln("jobs", "--json", folder=tmp_path)
    assert json.loads(done.stdout)["error"]["code"] == "unreachable"
    assert done.returncode == 3


@pytest.mark.parametrize(
    "arguments", [["generate"], ["generate", "a cat", "--steps", "many"], ["paint"], ["jobs", "-x"]]
)
def test_wrong_usage_exits_2(arguments: list[str], tmp_path: Path) -> None:
    assert kiln(*arguments, folder=tmp_path).returncode == 2


def test_a_picture_that_exists_is_refused_before_the_api_is_asked(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"old")
    done = kiln("generate", "a cat", "--output", "cat.png", folder=tmp_path)
    assert done.returncode == 2
    assert "cat.png exists already" in done.stderr
