"""What a worker at work tells of itself: its users through the database, and Prometheus at its own port."""

from typing import Any

import httpx2
import pytest

from tests.deployment import Kiln
from tests.monitoring.scrape import Scrape, scrape
from tests.processes import free_port, wait_for


def test_what_a_worker_does_is_seen_while_it_does_it(kiln: Kiln) -> None:
    port = free_port()
    with kiln.worker(slots=2, engine_mode="fast", metrics_port=port):
        told_at = f"http://127.0.0.1:{port}"

        def told(name: str, **labels: str) -> float:
            return scrape(told_at).sum(f"kiln_worker_{name}", **labels)

        job_id = kiln.post(num_inference_steps=500, num_images=3)["id"]
        wait_for("a call that two share", lambda: worker(kiln)["slots_used"] == 2 and told("ticks_total"), seconds=60)
        at_work, early = worker(kiln), scrape(told_at)
        wait_for("more calls", lambda: told("ticks_total") > early.sum("kiln_worker_ticks_total") + 10, seconds=30)
        late = scrape(told_at)
        httpx2.post(f"{kiln.url}/v1/jobs/{job_id}/cancel")
        kiln.finished(job_id)
        wait_for("rest", lambda: not (worker(kiln)["pictures"] or worker(kiln)["slots_used"]), seconds=30)
        at_rest, idle = worker(kiln), told("idle_seconds_total", cause="no_jobs")
        wait_for("more idle time, and nothing to end it", lambda: told("idle_seconds_total", cause="no_jobs") > idle)
        ended = scrape(told_at)

    assert (at_work["engine_mode"], at_work["slots"], at_work["pictures"]) == ("fast", 2, 3)
    assert (at_work["running"], at_work["jobs"]) == (1, [job_id])
    assert (at_rest["slots_used"], at_rest["running"], at_rest["jobs"]) == (0, 0, [])
    assert [late.sum(f"kiln_worker_{name}") for name in ("slots", "slots_used", "pictures")] == [2, 2, 3]
    assert seconds(late, "tick") > seconds(early, "tick") > 0
    # up to one call: the figures are read while the device counts
    ticks = late.sum("kiln_worker_ticks_total")
    assert late.sum("kiln_worker_evaluations_total") == pytest.approx(2 * ticks, abs=2)
    assert late.sum("kiln_worker_tick_rows_total") == pytest.approx(4 * ticks, abs=4), "with and without the prompt"
    assert late.sum("kiln_worker_called_total") >= late.sum("kiln_worker_calls_total") > 0
    assert late.sum("kiln_worker_idle_seconds_total", cause="between_stages") >= 0
    assert ended.sum("kiln_worker_attempts_total", outcome="canceled") == 1


def worker(kiln: Kiln) -> dict[str, Any]:
    """The only one there is."""
    (found,) = httpx2.get(f"{kiln.url}/v1/workers", timeout=30).json()["data"]
    return dict(found)


def seconds(told: Scrape, of: str) -> float:
    return told.sum(f"kiln_worker_{of}_seconds_total")
