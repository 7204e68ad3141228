"""Who pays for a lost worker: the suspect alone, nobody who was merely cut off, and nobody is excused for ever."""

from uuid import UUID

import pytest
from sqlalchemy import Engine, select, text

from common.db import reading, transaction
from common.errors import DeviceLost, StorageError
from common.jobs import lease
from common.jobs.charge import EXCUSES
from common.jobs.claim import Claim
from common.jobs.owner import cancel_job
from common.jobs.sweep import return_expired, round_parts, take_back_charges
from common.jobs.tables import jobs
from common.jobs.workers import record_worker, remove_worker
from tests.jobs.make import claimed, let_leases_run_out, let_pauses_pass, let_run_deadline_pass, submit

MAX_FAILURES = 4


def costs(engine: Engine, job_id: UUID) -> tuple[str, int, int]:
    """The job's status, the failures it was charged with, and how often it was excused."""
    with reading(engine) as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
    return row.status, row.failures, row.excused


def error_of(engine: Engine, job_id: UUID) -> str | None:
    with reading(engine) as connection:
        error = connection.execute(select(jobs.c.error).where(jobs.c.id == job_id)).scalar_one()
    return error and error["code"]


def give_sign_of_life(engine: Engine, worker: str = "w1") -> None:
    record_worker(engine, worker, state="ready", models=["demo"], device="cpu", seats=2, figures={})


def sweep(engine: Engine) -> int:
    return return_expired(engine, lease_seconds=0, max_failures=MAX_FAILURES)


def lose(engine: Engine, job_id: UUID | None = None) -> int:
    let_leases_run_out(engine, job_id)
    return sweep(engine)


def in_hand(engine: Engine, worker: str = "w1", *, failures: int = 0) -> Claim:
    job_id = submit(engine)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET failures = :f WHERE id = :id"), {"f": failures, "id": job_id})
    taken = claimed(engine, worker)
    assert taken.job_id == job_id
    return taken


def test_all_that_a_dead_worker_had_in_hand_are_charged_once_where_none_is_suspect(engine: Engine) -> None:
    first, second = in_hand(engine), in_hand(engine)
    assert lose(engine) == 2
    assert [costs(engine, each.job_id) for each in (first, second)] == [("queued", 1, 0)] * 2


def test_of_a_dead_workers_jobs_the_one_that_failed_before_is_charged_alone(engine: Engine) -> None:
    before, suspect, after = in_hand(engine), in_hand(engine, failures=1), in_hand(engine)
    elsewhere = in_hand(engine, "w2")
    assert lose(engine) == 4
    assert costs(engine, suspect.job_id) == ("queued", 2, 0)
    assert [costs(engine, each.job_id) for each in (before, after)] == [("queued", 0, 1)] * 2
    assert costs(engine, elsewhere.job_id) == ("queued", 1, 0), "another worker had the suspect"


def test_the_neighbors_of_a_suspect_wait_no_longer_for_it(engine: Engine) -> None:
    neighbor = in_hand(engine)
    in_hand(engine, failures=2)
    lose(engine)
    assert claimed(engine).job_id == neighbor.job_id


@pytest.mark.parametrize("suspect_first", [True, False])
def test_leases_that_run_out_in_different_rounds_are_judged_together(engine: Engine, suspect_first: bool) -> None:
    """The heartbeat prolongs all at once, but the latest claim stands from its own time on."""
    neighbor, suspect = in_hand(engine), in_hand(engine, failures=1)
    rounds = (suspect, neighbor) if suspect_first else (neighbor, suspect)
    for each in rounds:
        assert lose(engine, each.job_id) == 1
    assert (costs(engine, neighbor.job_id), costs(engine, suspect.job_id)) == (("queued", 0, 1), ("queued", 2, 0))


def test_a_suspect_that_ended_its_worker_for_good_still_answers_for_its_neighbors(engine: Engine) -> None:
    neighbor, suspect = in_hand(engine), in_hand(engine, failures=MAX_FAILURES - 1)
    lose(engine, suspect.job_id)
    lose(engine, neighbor.job_id)
    assert costs(engine, suspect.job_id) == ("failed", MAX_FAILURES, 0)
    assert costs(engine, neighbor.job_id) == ("queued", 0, 1)


def test_a_suspect_that_its_worker_lost_before_answers_for_nothing_claimed_since(engine: Engine) -> None:
    lose(engine, in_hand(engine, failures=1).job_id)
    later = in_hand(engine)
    lose(engine, later.job_id)
    assert costs(engine, later.job_id) == ("queued", 1, 0)


def test_a_first_failure_makes_no_suspect_of_its_own_round(engine: Engine) -> None:
    first, second = in_hand(engine), in_hand(engine)
    lose(engine, first.job_id)
    lose(engine, second.job_id)
    assert costs(engine, second.job_id) == ("queued", 1, 0)


def test_a_worker_that_was_cut_off_and_is_heard_of_again_costs_its_jobs_nothing(engine: Engine) -> None:
    give_sign_of_life(engine)
    first, second = in_hand(engine), in_hand(engine)
    lose(engine)
    assert take_back_charges(engine) == 0, "its last sign of life is from before"
    give_sign_of_life(engine, "w2")
    assert take_back_charges(engine) == 0, "that is another one"
    give_sign_of_life(engine)
    assert take_back_charges(engine) == 2
    assert [costs(engine, each.job_id) for each in (first, second)] == [("queued", 0, 1)] * 2
    assert take_back_charges(engine) == 0, "once is enough"


def test_four_partitions_do_not_fail_a_healthy_job(engine: Engine) -> None:
    job_id = submit(engine)
    for _ in range(MAX_FAILURES):
        let_pauses_pass(engine)
        assert claimed(engine).job_id == job_id
        lose(engine)
        give_sign_of_life(engine)
        for part in round_parts(engine, lease_seconds=0, max_failures=MAX_FAILURES).values():
            part()
    assert costs(engine, job_id) == ("queued", 0, MAX_FAILURES)


def test_every_worker_of_a_rack_that_was_cut_off_takes_its_own_charge_with_it(engine: Engine) -> None:
    """One after the other, before the first is heard of again; one of them twice; and one of them died."""
    job_id = submit(engine)
    for worker in ("w1", "w2", "w1"):
        let_pauses_pass(engine)
        assert claimed(engine, worker).job_id == job_id
        lose(engine)
    give_sign_of_life(engine, "w1")
    assert take_back_charges(engine) == 1
    assert costs(engine, job_id) == ("queued", 1, 2)
    remove_worker(engine, "w1")
    assert take_back_charges(engine) == 0
    give_sign_of_life(engine, "w2")
    assert take_back_charges(engine) == 1
    assert costs(engine, job_id) == ("queued", 0, 3)


def test_a_charge_is_taken_back_while_another_runs_the_job_and_not_when_it_is_over(engine: Engine) -> None:
    job_id = submit(engine)
    claimed(engine)
    lose(engine)
    let_pauses_pass(engine)
    taken = claimed(engine, "w2")
    give_sign_of_life(engine)
    assert take_back_charges(engine) == 1
    assert costs(engine, job_id) == ("running", 0, 1)
    lease.cancel(engine, taken)

    over = submit(engine)
    claimed(engine)
    let_leases_run_out(engine)
    return_expired(engine, lease_seconds=0, max_failures=1)
    give_sign_of_life(engine)
    assert take_back_charges(engine) == 0
    assert costs(engine, over) == ("failed", 1, 0)


def test_what_was_charged_for_an_error_stays_charged(engine: Engine) -> None:
    job_id = submit(engine)
    lease.retry(engine, claimed(engine), StorageError("away"), max_failures=MAX_FAILURES)
    let_pauses_pass(engine)
    claimed(engine)
    lose(engine)
    give_sign_of_life(engine)
    take_back_charges(engine)
    assert costs(engine, job_id) == ("queued", 1, 1)


def test_a_job_that_freezes_its_worker_each_time_fails_in_the_end(engine: Engine) -> None:
    job_id = submit(engine)
    for _ in range(EXCUSES + MAX_FAILURES):
        assert costs(engine, job_id)[0] == "queued"
        let_pauses_pass(engine)
        claimed(engine)
        lose(engine)
        give_sign_of_life(engine)
        take_back_charges(engine)
    assert costs(engine, job_id) == ("failed", MAX_FAILURES, EXCUSES)
    assert error_of(engine, job_id) == "worker_lost"


def test_a_job_that_breaks_the_device_each_time_is_excused_first_and_fails_in_the_end(engine: Engine) -> None:
    job_id = submit(engine)
    for count in range(1, EXCUSES + MAX_FAILURES + 1):
        let_pauses_pass(engine)
        lease.excuse(engine, claimed(engine), DeviceLost.error, max_failures=MAX_FAILURES)
        assert costs(engine, job_id)[1:] == (max(0, count - EXCUSES), min(EXCUSES, count))
    assert (costs(engine, job_id)[0], error_of(engine, job_id)) == ("failed", "device_failed")


def test_an_excused_job_that_was_to_be_canceled_has_ended(engine: Engine) -> None:
    job_id = submit(engine)
    taken = claimed(engine)
    cancel_job(engine, "ann", job_id)
    assert lease.excuse(engine, taken, DeviceLost.error, max_failures=MAX_FAILURES) == "canceled"


def test_a_neighbor_is_not_excused_for_ever_either(engine: Engine) -> None:
    neighbor = in_hand(engine)
    in_hand(engine, failures=1)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET excused = :e WHERE id = :id"), {"e": EXCUSES, "id": neighbor.job_id})
    lose(engine)
    assert costs(engine, neighbor.job_id) == ("queued", 1, EXCUSES)


def test_an_attempt_that_does_not_end_is_told_from_a_worker_that_died(engine: Engine) -> None:
    submit(engine)
    for _ in range(MAX_FAILURES):
        let_pauses_pass(engine)
        taken = claimed(engine)
        let_run_deadline_pass(engine, taken.job_id)
        lease.extend_leases(engine, [taken.token], 60)
        assert sweep(engine) == 1
    assert (costs(engine, taken.job_id)[0], error_of(engine, taken.job_id)) == ("failed", "job_deadline_passed")
