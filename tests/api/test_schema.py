"""schemathesis throws what the OpenAPI document allows, and what it does not, at the real server: never a 5xx."""

import os
import subprocess
import sys
from pathlib import Path

from tests.api.conftest import Api
from tests.rules.source import ROOT

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_no_request_ends_in_a_5xx_or_in_an_answer_that_the_document_does_not_describe(api: Api) -> None:
    ended = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{api.base_url}/openapi.json",
            f"--checks={CHECKS}",
            "--phases=examples,coverage,fuzzing",
            "--max-examples=25",
            "--suppress-health-check=all",
            "--generation-database=none",
            "--no-color",
        ],
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.api.media"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    operations = sum(len(path) for path in api.get("/openapi.json").json()["paths"].values())
    assert f"Tested: {operations}" in ended.stdout, ended.stdout
