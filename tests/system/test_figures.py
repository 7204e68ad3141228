"""What a worker at work tells of itself, seen through the database from where its users and Prometheus look."""

from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deployment import Kiln
from tests.processes import wait_for


def test_what_a_worker_does_is_seen_while_it_does_it(kiln: Kiln) -> None:
    with kiln.worker(slots=2, engine_mode="fast"):
        job_id = kiln.post(num_inference_steps=500, num_images=3)["id"]
        wait_for("a call that two share", lambda: worker(kiln)["slots_used"] == 2, seconds=60)
        at_work, early = worker(kiln), figures(kiln)
        wait_for("more calls", lambda: figures(kiln)["ticks_total"] > early["ticks_total"] + 10, seconds=30)
        late = figures(kiln)
        httpx2.post(f"{kiln.url}/v1/jobs/{job_id}/cancel")
        kiln.finished(job_id)
        wait_for("rest", lambda: not (worker(kiln)["pictures"] or worker(kiln)["slots_used"]), seconds=30)
        at_rest, idle = worker(kiln), figures(kiln)["idle_seconds_total no_jobs"]
        wait_for("more idle time, and nothing to end it", lambda: figures(kiln)["idle_seconds_total no_jobs"] > idle)

    assert (at_work["engine_mode"], at_work["slots"], at_work["pictures"]) == ("fast", 2, 3)
    assert (at_work["running"], at_work["jobs"]) == (1, [job_id])
    assert (at_rest["slots_used"], at_rest["running"], at_rest["jobs"]) == (0, 0, [])
    assert (late["slots"], late["slots_used"], late["pictures"]) == (2, 2, 3)
    assert late["tick_seconds_total"] > early["tick_seconds_total"] > 0
    # up to one call: the figures are read while the device counts
    assert late["evaluations_total"] == pytest.approx(2 * late["ticks_total"], abs=2)
    assert late["tick_rows_total"] == pytest.approx(4 * late["ticks_total"], abs=4), "with and without the prompt"
    assert late["called_total"] >= late["calls_total"] > 0
    assert late["idle_seconds_total between_stages"] >= 0


def worker(kiln: Kiln) -> dict[str, Any]:
    """The only one there is."""
    (found,) = httpx2.get(f"{kiln.url}/v1/workers", timeout=30).json()["data"]
    return dict(found)


def figures(kiln: Kiln) -> dict[str, float]:
    """What Prometheus reads of it: kiln_worker_NAME as NAME, with the cause where there is one."""
    scraped = httpx2.get(f"{kiln.url}/metrics", timeout=30).text
    return {
        f"{sample.name.removeprefix('kiln_worker_')} {sample.labels.get('cause', '')}".strip(): sample.value
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
        if sample.name.startswith("kiln_worker_")
    }
