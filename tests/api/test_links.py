"""What the OpenAPI document says can be done with a new job: true in any order, also after the job is gone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2

from tests.api.conftest import Api
from tests.api.test_schema import CHECKS
from tests.hostile import TARGETS


def test_every_link_leads_to_an_operation_that_there_is(api: Api) -> None:
    paths = httpx2.get(f"{api.base_url}/openapi.json").json()["paths"]
    operations = [operation for methods in paths.values() for operation in methods.values()]
    links = [
        link["operationId"]
        for operation in operations
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert len(links) >= 8
    assert set(links) <= {operation["operationId"] for operation in operations}


def test_jobs_that_were_made_are_shown_canceled_retried_and_deleted_as_the_links_say(api: Api) -> None:
    minutes = os.environ.get("FUZZ_MINUTES")
    dose = f"--max-time={float(minutes) * 60 / TARGETS:.0f}" if minutes else "--max-examples=30"
    ended = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{api.base_url}/openapi.json",
            f"--checks={CHECKS},use_after_free,ensure_resource_availability",
            "--include-path-regex=^/v1/jobs",
            "--phases=stateful",
            dose,
            "--suppress-health-check=all",
            "--generation-database=none",
            "--no-color",
        ],
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.api.hooks"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    covered = re.search(r"API Links: +(\d+) covered", ended.stdout)
    assert covered, ended.stdout
    assert int(covered[1]) >= 8, ended.stdout
