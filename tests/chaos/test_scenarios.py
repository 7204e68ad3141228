"""A small choice of the chaos table, on one Kiln; what must fail comes last, for the checker reads all there is."""

from collections.abc import Iterator

import pytest

from tests.chaos import wrong
from tests.chaos.rig import Rig, running_rig
from tests.chaos.scenarios import api, messages, workers


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_rig(tmp_path_factory.mktemp("rig")) as running:
        yield running


def test_jobs_of_workers_that_are_killed_are_done_by_others(rig: Rig) -> None:
    workers.kills(rig, 1, points=("diffuse", "finishing"))
    report = rig.report()
    assert report.passed, report.violations
    assert (report.succeeded, report.recovered) == (report.attempted, 2)


def test_a_worker_that_wakes_after_it_lost_its_job_writes_nothing(rig: Rig) -> None:
    before = rig.refused()
    workers.late_writes(rig, 1, points=("score", "finishing"))
    report = rig.report()
    assert report.passed, report.violations
    assert rig.refused() == before + 2


def test_a_key_that_is_sent_again_after_the_api_was_killed_has_one_job(rig: Rig) -> None:
    api.kills(rig, 1, points=("committed",))
    report = rig.report()
    assert report.passed, report.violations


def test_doubled_and_forged_messages_change_nothing_and_end_no_worker(rig: Rig) -> None:
    messages.flood(rig, 11)
    report = rig.report()
    assert report.passed, report.violations


def test_the_checker_sees_what_a_worker_does_that_shows_no_token(rig: Rig) -> None:
    workers.overtake(rig, ["finishing"], wrong.unfenced)
    report = rig.report()
    assert report.unexpected == 1, report.violations
    assert "not of the attempt that won" in report.violations[0]
