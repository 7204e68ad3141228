"""`kiln doctor`: run.json or KILN_* settings in, a line per service out: ok, or what failed and what to do."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from client.address import home, read_run
from client.generate import AsJson
from client.output import Output, answering

if TYPE_CHECKING:
    from client.checks import Finding

_BROKEN = 1


def doctor(as_json: AsJson = False) -> None:
    """Check device, database, broker, bucket, weights, API and workers, each by itself.

    Looks where KILN_* variables say, else where `kiln up` runs here. Exits with 1 when something failed.
    """
    with answering(as_json) as output:
        findings = _examine(read_run(home()))
        _tell(findings, output)
        if not all(finding.ok for finding in findings):
            raise typer.Exit(_BROKEN)


def run_settings(run: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that run.json knows and the environment does not give: what a person sets goes first."""
    storage = {f"s3_{name}": value for name, value in (run.get("storage") or {}).items()}
    known = {"database_url": run.get("database"), "broker_url": run.get("broker"), **storage}
    return {name: value for name, value in known.items() if value and f"KILN_{name.upper()}" not in environment}


def _examine(run: Mapping[str, Any]) -> "list[Finding]":
    # Imported here: these bring the drivers of every service, which no other command needs.
    from pydantic import ValidationError

    from client.checks import Finding, api_checks, find_all
    from common.settings import Settings

    try:
        settings = Settings(home=Path(home()), **run_settings(run, os.environ))
    except ValidationError as error:
        wrong = [f"KILN_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors()]
        advice = "start everything with `kiln up`, or set these variables"
        return [Finding("settings", False, "; ".join(wrong), advice), *(check.find() for check in api_checks())]
    return find_all(settings)


def _tell(findings: "list[Finding]", output: Output) -> None:
    lines = []
    for finding in findings:
        lines.append(f"{'ok' if finding.ok else 'failed':<7} {finding.name:<9} {finding.detail}")
        if finding.advice:
            lines.append(f"{'':<7} {'':<9} what to do: {finding.advice}")
    data = {"ok": all(finding.ok for finding in findings), "checks": [finding.to_json() for finding in findings]}
    output.answer(data, *lines)
