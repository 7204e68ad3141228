"""`kiln jobs`, `show`, `retry` and `delete` on the running stack."""

import json

import pytest

from client.api import Kiln
from tests.client.conftest import Command
from tests.client.test_client import FAR


@pytest.fixture
def canceled(api: Kiln) -> str:
    return str(api.cancel(api.submit("a cat\nthat was [bold]not[/bold] wanted", not_before=FAR)["id"])["id"])


def test_jobs_are_a_table_for_people_and_an_array_for_scripts(kiln: Command, canceled: str) -> None:
    table = kiln("jobs", "--limit", "1")
    assert table.returncode == 0, table.stderr
    header, row = table.stdout.splitlines()
    assert header.split() == ["id", "status", "created", "model", "prompt"]
    assert row.split()[:2] == [canceled, "canceled"]
    assert row.rstrip().endswith("a cat that was [bold]not[/bold] wanted")
    listed = json.loads(kiln("jobs", "--limit", "1", "--status", "canceled", "--json").stdout)
    assert [(job["id"], job["status"]) for job in listed] == [(canceled, "canceled")]


def test_an_unknown_status_is_refused_with_the_known_ones(kiln: Command) -> None:
    done = kiln("jobs", "--status", "lost")
    assert done.returncode == 2
    assert done.stderr.startswith("--status: ")
    assert "succeeded" in done.stderr


def test_show_tells_prompt_seed_and_status(kiln: Command, api: Kiln, canceled: str) -> None:
    facts = dict(line.split(maxsplit=1) for line in kiln("show", canceled).stdout.splitlines() if " " in line)
    assert (facts["id"], facts["status"]) == (canceled, "canceled")
    assert facts["seed"] == str(api.job(canceled)["input"]["seed"])


def test_a_retry_is_a_new_job_with_the_changes_asked_for(kiln: Command, api: Kiln, canceled: str) -> None:
    done = kiln("retry", canceled, "--seed", "11", "--steps", "2")
    assert done.returncode == 0, done.stderr
    job = api.job(done.stdout.strip())
    assert (job["retried_from"], job["input"]["seed"], job["input"]["num_inference_steps"]) == (canceled, 11, 2)
    api.cancel(job["id"])


def test_a_deleted_job_is_gone_and_asking_for_it_exits_2(kiln: Command, canceled: str) -> None:
    assert kiln("delete", canceled).returncode == 0
    done = kiln("show", canceled, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "not_found"
    assert canceled in done.stderr
