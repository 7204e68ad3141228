"""What Prometheus finds at the processes of a Kiln: it moves as it should, names nobody, and suits the dashboard."""

import json
import re
import shutil
import subprocess
from collections import Counter

import pytest
import yaml

from common.jobs.state import Stage
from common.settings import Settings
from common.telemetry import serve_metrics
from tests.monitoring.conftest import Story
from tests.monitoring.promql import grouped, metrics
from tests.monitoring.scrape import Scrape
from tests.processes import changed, free_port
from tests.rules.source import ROOT

pytestmark = pytest.mark.timeout(600)  # the story, on a machine that is busy

OF_TARGETS = {"job", "instance"}  # labels that Prometheus adds
OF_PROMETHEUS = {"up"}  # what it says itself
ANYBODY = {"kiln_upload_bytes"}  # told by whichever process does it

DASHBOARD = json.loads((ROOT / "monitoring/grafana/kiln.json").read_text())
ALERTS = yaml.safe_load((ROOT / "monitoring/alerts.yml").read_text())
EXPRESSIONS = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
} | {rule["alert"]: rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_what_the_dashboard_and_the_alerts_ask_for_is_told(story: Story, expression: str) -> None:
    """A panel that stays empty, or an alert that never comes, because a name or a label was changed here alone."""
    asked = metrics(expression)
    assert asked
    known = set(OF_TARGETS)
    for name, labels in asked.items():
        told = [scrape for scrape in story.before.all if name in scrape.names]
        assert told or name in OF_PROMETHEUS, f"nobody tells {name}"
        has = OF_TARGETS.union(*(scrape.labels(name) for scrape in told))
        assert labels <= has, f"{name} has no {labels - has}"
        known |= has
    assert grouped(expression) <= known


def test_a_legend_names_what_its_expression_leaves() -> None:
    """A graph of five lines that are all called the same: nothing."""
    for target in (target for panel in DASHBOARD["panels"] for target in panel.get("targets", [])):
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        aggregated = "(" in target["expr"]
        assert named <= (grouped(target["expr"]) if aggregated else OF_TARGETS), target


def test_a_job_that_failed_once_is_seen_in_every_number(story: Story) -> None:
    assert (story.job["status"], story.job["attempt"]) == ("succeeded", 2), story.job
    worker = "kiln_worker"
    assert story.moved("worker", f"{worker}_claims_total", lane="interactive") == 2
    assert story.moved("worker", f"{worker}_claims_total", lane="batch") == 0
    assert story.moved("worker", f"{worker}_attempts_total", outcome="retried") == 1
    assert story.moved("worker", f"{worker}_attempts_total", outcome="succeeded") == 1
    assert story.moved("worker", f"{worker}_attempts_total") == 2
    assert story.moved("worker", f"{worker}_failures_total", code="internal_error") == 1
    assert story.moved("worker", f"{worker}_failures_total") == 1
    stages = {stage: story.moved("worker", f"{worker}_stage_seconds_count", stage=stage) for stage in Stage}
    assert stages == {"enhance": 2, "diffuse": 2, "score": 1, "store": 1}, "of those that came to their end"
    assert story.moved("worker", f"{worker}_stage_seconds_sum", stage="diffuse") > 0
    assert story.moved("worker", f"{worker}_evaluations_total") == story.moved("worker", f"{worker}_ticks_total") == 10
    assert story.moved("worker", f"{worker}_tick_rows_total") == 20
    assert story.moved("worker", f"{worker}_tick_seconds_total") > 0
    assert story.moved("worker", f"{worker}_calls_total") > 0
    assert story.moved("worker", f"{worker}_idle_seconds_total", cause="no_jobs") >= 0
    assert story.after.worker.sum(f"{worker}_slots") == 1
    assert story.after.worker.sum(f"{worker}_memory_peak_bytes") > 100e6, "torch alone takes more"


def test_the_bytes_that_were_put_are_counted_where_they_were_put(story: Story) -> None:
    (picture,) = story.job["images"]
    put = story.moved("worker", "kiln_upload_bytes_total")
    assert picture["bytes"] < put < picture["bytes"] + 50_000, "a thumbnail"
    assert story.moved("api", "kiln_upload_bytes_total") == 0


def test_the_api_tells_of_requests_queue_and_workers(story: Story) -> None:
    asked = {"method": "POST", "route": "/v1/jobs", "status": "202"}
    assert story.after.api.sum("kiln_http_request_seconds_count", **asked) == 1
    assert story.after.api.sum("kiln_workers", state="ready") == 1
    for lane in ("interactive", "batch"):
        assert story.after.api.sum("kiln_jobs", lane=lane) == 0
        assert story.after.api.sum("kiln_oldest_wait_seconds", lane=lane) == 0


def test_the_sweeper_tells_that_it_sweeps(story: Story) -> None:
    assert story.moved("sweeper", "kiln_sweeper_sweeps_total") > 0
    assert story.moved("sweeper", "kiln_sweeper_returned_jobs_total") == 0


def test_jobs_add_numbers_and_no_series(story: Story) -> None:
    """A Prometheus that is full after a night, because each job left a series of its own."""

    def series(told: Scrape) -> set[tuple[str, ...]]:
        return {(sample.name, *sample.labels.values()) for sample in told.samples}

    assert series(story.after.worker) == series(story.before.worker)
    assert series(story.after.sweeper) == series(story.before.sweeper)
    values = {value for told in story.after.all for sample in told.samples for value in sample.labels.values()}
    assert not [value for value in values if story.job["id"] in value or value == "local"]


def test_each_number_of_ours_has_a_meaning_and_one_process_that_tells_it(story: Story) -> None:
    families = Counter(
        name
        for told in story.after.all
        for name in told.meanings
        if name.startswith("kiln_") and not name.endswith("_created")  # when a counter began: beside each
    )
    assert {name for name, count in families.items() if count > 1} == ANYBODY
    for told in story.after.all:
        assert all(meaning for name, meaning in told.meanings.items() if name.startswith("kiln_"))


def test_a_port_that_cannot_be_had_is_told_by_the_names_of_its_settings(module_settings: Settings) -> None:
    elsewhere = changed(module_settings, metrics_host="192.0.2.1", metrics_port=free_port())  # RFC 5737: nobody's
    with pytest.raises(SystemExit, match=r"KILN_METRICS_HOST and KILN_METRICS_PORT: cannot listen at 192\.0\.2\.1"):
        serve_metrics(elsewhere)


@pytest.mark.parametrize(
    "arguments", [["rules", "monitoring/alerts.yml"], ["config", "--syntax-only", "monitoring/prometheus.yml"]]
)
def test_promtool_finds_nothing_wrong(arguments: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH")
    checked = subprocess.run([promtool, "check", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
