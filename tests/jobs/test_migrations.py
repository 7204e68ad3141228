"""Migrations: forwards, backwards, and equal to the tables in code."""

import os
import subprocess
import sys

import pytest
from sqlalchemy import Engine, text

from common.db import transaction
from common.jobs.workers import list_workers, record_worker


def migrate(database_url: str, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "migrations", *arguments],
        env=os.environ | {"KILN_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_the_schema_equals_the_tables_in_code_and_survives_going_down_and_up(database_url: str) -> None:
    assert "No new upgrade operations detected" in migrate(database_url, "check")
    migrate(database_url, "downgrade", "--to", "base")
    migrate(database_url)
    migrate(database_url)  # a second deploy of the same version
    assert "No new upgrade operations detected" in migrate(database_url, "check")


def test_a_worker_of_the_version_before_lives_on_the_new_schema_and_is_there_after_going_back(
    database_url: str, engine: Engine
) -> None:
    """A deploy in which each worker that has not been replaced yet loses its entry, and so its models' jobs."""
    record_worker(engine, "new", state="ready", models=["demo"], device="cpu", seats=2, figures={"slots": 8})
    with transaction(engine) as connection:
        connection.execute(
            text("INSERT INTO workers (id, state, models, device, seats) VALUES ('old', 'ready', '{demo}', 'cpu', 2)")
        )
    assert figures(engine) == {"new": {"slots": 8}, "old": {}}

    migrate(database_url, "downgrade", "--to", "0001")
    migrate(database_url)

    assert figures(engine) == {"new": {}, "old": {}}


def figures(engine: Engine) -> dict[str, object]:
    return {worker.id: worker.figures for worker in list_workers(engine, alive_seconds=600)}


def test_a_missing_url_is_one_clear_line(tmp_path: os.PathLike[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
    ended = subprocess.run(
        [sys.executable, "-m", "migrations"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "KILN_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [["--help"]])
def test_help_says_what_it_does(arguments: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-m", "migrations", *arguments], capture_output=True, text=True, check=True)
    assert "upgrade" in ended.stdout
