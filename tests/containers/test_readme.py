"""README's commands for containers: each is what Docker and our own programs understand, and .env comes out whole."""

import os
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from client.main import app
from tests.containers.compose import ROOT, load, read_env
from tests.containers.readme import command, commands, words

COMPOSE = [words(line) for line in commands() if line.startswith("docker compose ")]


def test_the_first_command_makes_an_env_file_that_compose_starts_with(tmp_path: Path) -> None:
    """Passwords to be made up by hand, or a file that everybody on the machine reads."""
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    subprocess.run(["/bin/sh", "-euc", command("(umask")], cwd=tmp_path, check=True)
    made, example = read_env(tmp_path / ".env"), read_env(ROOT / ".env.example")
    assert load(made).keys() == load(dict.fromkeys(example, "1")).keys()
    secrets = [made[name] for name, value in example.items() if not value]
    assert all(len(secret) == 48 for secret in secrets)
    assert len(set(secrets)) == len(secrets) >= 5
    assert {name: made[name] for name, value in example.items() if value} == {k: v for k, v in example.items() if v}
    if os.name == "posix":
        assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_the_commands_are_those_of_a_whole_day() -> None:
    assert [line[2] for line in COMPOSE] == ["run", "up", "run", "logs", "down"]
    assert "--detach" in words(command("docker compose up")), "or the next command needs another terminal"


@pytest.mark.parametrize("line", [line for line in COMPOSE if line[2] == "run"], ids=" ".join)
def test_what_runs_in_a_container_is_a_command_of_ours(line: list[str]) -> None:
    at = line.index("kiln")
    (service,) = [word for word in line[3:at] if not word.startswith("-")]
    assert service in load(dict.fromkeys(read_env(ROOT / ".env.example"), "1"))
    group = get_command(app)
    for word in line[at + 1 : -1]:
        group = group.commands[word]  # type: ignore[attr-defined]
    with group.make_context("kiln", line[-1:]) as context:
        assert context.params


def test_the_address_that_is_told_is_the_api() -> None:
    port = load(dict.fromkeys(read_env(ROOT / ".env.example"), "1"))["api"]["ports"]
    assert port == ["127.0.0.1:8000:8000"]
    assert "http://127.0.0.1:8000" in (ROOT / "README.md").read_text().split("## Containers")[1].split("\n## ")[0]
