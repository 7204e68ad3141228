"""The outbox of webhooks: every end of a job writes one delivery, whoever ends it; each is claimed and settled."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from common.db import transaction
from common.errors import NumericalError
from common.jobs import lease
from common.jobs.batch import NewBatch, retry_failed, submit_batch
from common.jobs.best import drop_rest
from common.jobs.deliveries import (
    Attempt,
    Delivery,
    DeliveryStatus,
    claim_delivery,
    list_deliveries,
    pause_before_next,
    redeliver,
    settle_delivery,
    tell_completed,
)
from common.jobs.owner import cancel_job, delete_job
from common.jobs.retention import forget_finished
from common.jobs.secrets import read_secret, rotate_secret
from common.jobs.state import TERMINAL
from common.jobs.steer import cancel_batch
from common.jobs.submit import submit_job
from common.jobs.sweep import expire_overdue, return_expired
from common.jobs.workers import record_worker
from tests.jobs.make import PICTURE, claimed, let_deadlines_pass, let_leases_run_out, submission, submit

ALL = sorted(status.value for status in TERMINAL)


def hook(*events: str, host: str = "example.com") -> dict[str, Any]:
    return {"url": f"https://{host}/hook", "host": host, "events": list(events) or ALL}


def told(engine: Engine, owner: str = "ann") -> list[Delivery]:
    return list_deliveries(engine, owner, limit=100)[0]


def claim(engine: Engine, **busy: Any) -> Attempt | None:
    return claim_delivery(engine, lease_seconds=20, **busy)


def due(engine: Engine) -> Attempt:
    attempt = claim(engine)
    assert attempt is not None, "nothing is due"
    return attempt


def answer(engine: Engine, code: int) -> DeliveryStatus:
    return settle_delivery(engine, due(engine), status_code=code, error=None)


def finish(engine: Engine) -> None:
    lease.succeed(engine, claimed(engine), [PICTURE], recipe={}, timings={})


def put(engine: Engine, events: list[str] | None = None, count: int = 2, **changes: Any) -> UUID:
    """A batch with a webhook."""
    batch = NewBatch("ann", "night", "f", webhook=hook(*(events or ["completed"])), **changes)
    jobs = [submission(seed=seed, reuse=False) for seed in range(count)]
    return submit_batch(engine, batch, jobs, max_queued=100, max_queued_per_owner=100).batch_id


def succeed(engine: Engine, _: UUID) -> None:
    finish(engine)


def fail(engine: Engine, _: UUID) -> None:
    lease.fail(engine, claimed(engine), NumericalError("NaN"))


def lose(engine: Engine, _: UUID) -> None:
    claimed(engine)
    let_leases_run_out(engine)
    assert return_expired(engine, lease_seconds=0, max_failures=1) == 1


def cancel_waiting(engine: Engine, job: UUID) -> None:
    cancel_job(engine, "ann", job)


def cancel_running(engine: Engine, job: UUID) -> None:
    claim = claimed(engine)
    cancel_job(engine, "ann", job)
    lease.cancel(engine, claim)


def cancel_lost(engine: Engine, job: UUID) -> None:
    claimed(engine)
    cancel_job(engine, "ann", job)
    let_leases_run_out(engine)
    return_expired(engine, lease_seconds=0, max_failures=4)


def expire(engine: Engine, _: UUID) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET deadline = clock_timestamp()"))
    let_deadlines_pass(engine)
    assert expire_overdue(engine) == 1


ENDS: list[tuple[Callable[[Engine, UUID], None], str]] = [
    (succeed, "succeeded"),
    (fail, "failed"),
    (lose, "failed"),
    (cancel_waiting, "canceled"),
    (cancel_running, "canceled"),
    (cancel_lost, "canceled"),
    (expire, "expired"),
]


@pytest.mark.parametrize(("end", "status"), ENDS, ids=[end.__name__ for end, _ in ENDS])
def test_every_way_to_end_writes_one_delivery_with_the_end(
    engine: Engine, end: Callable[[Engine, UUID], None], status: str
) -> None:
    job = submit(engine, webhook=hook(), metadata={"album": "cats"})
    assert told(engine) == []
    end(engine, job)
    (one,) = told(engine)
    assert (one.job_id, one.type, one.status, one.url) == (job, f"job.{status}", "pending", "https://example.com/hook")
    assert (one.data["status"], one.data["metadata"]) == (status, {"album": "cats"})
    assert one.id.version == 7
    assert one.data["error"] == {fail: "numerical_error", lose: "worker_lost"}.get(end)


def test_a_job_that_is_over_at_once_is_told_too(engine: Engine) -> None:
    submit(engine)
    finish(engine)
    record_worker(engine, "w1", state="ready", models=["demo"], device="cpu", seats=2, figures={}, recipes={"demo": {}})
    receipt = submit_job(engine, submission(webhook=hook()), max_queued=9)
    assert receipt.reused
    assert [(one.job_id, one.type) for one in told(engine)] == [(receipt.job_id, "job.succeeded")]


def test_an_end_that_nobody_asked_for_and_a_job_without_webhook_write_nothing(engine: Engine) -> None:
    submit(engine, webhook=hook("failed", "expired"))
    submit(engine)
    for _ in range(2):
        finish(engine)
    assert told(engine) == []


def test_an_end_that_is_rolled_back_was_not_told(engine: Engine) -> None:
    submit(engine, webhook=hook())
    with pytest.raises(ZeroDivisionError):
        cancel_and_fall(engine)
    assert told(engine) == []


def cancel_and_fall(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET status = 'canceled', finished_at = clock_timestamp()"))
        raise ZeroDivisionError


def test_a_batch_tells_of_its_jobs_what_it_was_asked_for_and_of_its_end_once(engine: Engine) -> None:
    batch = put(engine, ["failed", "completed"], count=3)
    finish(engine)
    fail(engine, batch)
    assert tell_completed(engine) == 0
    finish(engine)
    assert [tell_completed(engine) for _ in range(2)] == [1, 0]
    last, first = told(engine)
    assert (first.type, first.batch_id) == ("job.failed", batch)
    assert (last.type, last.batch_id, last.job_id) == ("batch.completed", batch, None)
    assert last.data == {
        "status": "completed",
        "name": "night",
        "counts": {"succeeded": 2, "failed": 1},
        "metadata": {},
    }


def test_a_batch_that_is_retried_is_told_anew(engine: Engine) -> None:
    batch = put(engine, count=1)
    fail(engine, batch)
    assert tell_completed(engine) == 1
    retry_failed(engine, "ann", batch, max_queued=9, max_queued_per_owner=9)
    assert tell_completed(engine) == 0
    finish(engine)
    assert tell_completed(engine) == 1
    assert [one.data["counts"] for one in told(engine)] == [{"failed": 1, "succeeded": 1}, {"failed": 1}]


def test_a_batch_in_which_nothing_is_there_to_retry_is_not_told_again(engine: Engine) -> None:
    batch = put(engine, count=1)
    finish(engine)
    assert tell_completed(engine) == 1
    for _ in range(3):
        assert retry_failed(engine, "ann", batch, max_queued=9, max_queued_per_owner=9) == []
        assert tell_completed(engine) == 0


def test_of_two_that_tell_at_once_one_tells(engine: Engine) -> None:
    for _ in range(5):
        put(engine, count=1)
        finish(engine)
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda _: tell_completed(engine), range(4))) == 5
    assert len(told(engine)) == 5


def test_receivers_that_say_together_that_they_are_gone_do_not_wait_for_each_other(engine: Engine) -> None:
    for _ in range(12):
        submit(engine, webhook=hook())
        finish(engine)
    attempts = [due(engine) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        settled = threads.map(lambda one: settle_delivery(engine, one, status_code=410, error=None), attempts)
        assert DeliveryStatus.DISABLED in settled  # who comes later finds its own given up already
    assert {one.status for one in list_deliveries(engine, "ann", limit=20)[0]} == {DeliveryStatus.DISABLED}


def test_a_canceled_batch_is_told_as_canceled_and_one_that_keeps_its_best_once_they_are_chosen(engine: Engine) -> None:
    cancel_batch(engine, "ann", put(engine))
    assert tell_completed(engine) == 1
    assert told(engine)[0].data["status"] == "canceled"
    put(engine, keep_best=1)
    for _ in range(2):
        finish(engine)
    assert tell_completed(engine) == 0
    drop_rest(engine)
    assert tell_completed(engine) == 1


def test_an_attempt_is_one_sweepers_until_its_lease_ends(engine: Engine) -> None:
    submit(engine, webhook=hook())
    finish(engine)
    first = due(engine)
    assert claim(engine) is None
    let_attempts_run_out(engine)
    second = due(engine)
    assert (second.delivery.id, second.delivery.attempts) == (first.delivery.id, 2)
    assert settle_delivery(engine, first, status_code=200, error=None) is DeliveryStatus.PENDING
    assert settle_delivery(engine, second, status_code=204, error=None) is DeliveryStatus.DELIVERED
    (one,) = told(engine)
    assert (one.status, one.last_status_code, one.next_attempt_at) == ("delivered", 204, None)


def test_what_failed_is_due_again_later_and_given_up_after_a_day(engine: Engine) -> None:
    submit(engine, webhook=hook())
    finish(engine)
    assert settle_delivery(engine, due(engine), status_code=None, error="timeout") is DeliveryStatus.PENDING
    assert claim(engine) is None
    (one,) = told(engine)
    assert one.next_attempt_at is not None
    assert one.last_attempt_at is not None
    assert 3 < (one.next_attempt_at - one.last_attempt_at).total_seconds() < 7
    assert one.last_error == "timeout"
    with transaction(engine) as connection:
        connection.execute(text("UPDATE deliveries SET gives_up_at = clock_timestamp() + interval '5 s'"))
    let_attempts_run_out(engine)
    assert answer(engine, 500) is DeliveryStatus.FAILED
    (one,) = told(engine)
    assert (one.last_status_code, one.last_error, one.next_attempt_at) == (500, None, None)


def test_pauses_grow_to_hours_and_chance_spreads_them() -> None:
    assert [pause_before_next(attempts, 0.5) for attempts in (1, 2, 3)] == [5, 15, 45]
    assert pause_before_next(500, 0.5) == 4 * 3600
    assert (pause_before_next(1, 0), pause_before_next(1, 1)) == (3.75, 6.25)
    attempts = sum(1 for count in range(1, 50) if sum(pause_before_next(n, 0.5) for n in range(1, count)) < 24 * 3600)
    assert 10 <= attempts <= 15


def test_a_receiver_that_is_gone_gets_nothing_more_of_what_was_asked_before_and_is_tried_by_what_is_new(
    engine: Engine,
) -> None:
    for _ in range(3):
        submit(engine, webhook=hook())
    submit(engine, webhook=hook(host="other.example"))
    for _ in range(2):
        finish(engine)
    assert answer(engine, 410) is DeliveryStatus.DISABLED
    for _ in range(2):
        finish(engine)
    assert [one.status for one in told(engine)] == ["pending", "disabled", "disabled", "disabled"]
    submit(engine, webhook=hook())
    finish(engine)
    assert told(engine)[0].status == "pending"


def test_redelivery_makes_it_due_whatever_became_of_it_and_an_attempt_under_way_does_not_settle_it(
    engine: Engine,
) -> None:
    submit(engine, webhook=hook())
    finish(engine)
    assert answer(engine, 200) is DeliveryStatus.DELIVERED
    (one,) = told(engine)
    assert redeliver(engine, "bob", one.id) is None
    assert redeliver(engine, "ann", one.id) is not None
    old = due(engine)
    redeliver(engine, "ann", one.id)
    settle_delivery(engine, old, status_code=200, error=None)
    again = due(engine)
    assert (again.delivery.id, again.delivery.attempts) == (one.id, 3)


def test_owners_and_hosts_that_have_their_share_are_passed_over(engine: Engine) -> None:
    for owner, host in (("ann", "slow.example"), ("ann", "quick.example"), ("bob", "third.example")):
        submit(engine, owner, webhook=hook(host=host))
        finish(engine)
    assert claim(engine, busy_owners=["ann", "bob"]) is None
    found = [claim(engine, busy_hosts=["slow.example"]), claim(engine, busy_owners=["ann"])]
    assert [attempt and attempt.delivery.host for attempt in found] == ["quick.example", "third.example"]


def test_deliveries_go_with_their_job(engine: Engine) -> None:
    jobs = [submit(engine, webhook=hook()) for _ in range(2)]
    for _ in jobs:
        finish(engine)
    delete_job(engine, "ann", jobs[0])
    assert [one.job_id for one in told(engine)] == [jobs[1]]
    forget_finished(engine, days=1e-9)
    assert told(engine) == []


def test_the_secret_before_signs_for_a_day_and_nobody_elses_ever(engine: Engine) -> None:
    submit(engine, webhook=hook())
    finish(engine)
    first = read_secret(engine, "ann").secret
    assert due(engine).secrets == [first]
    assert read_secret(engine, "bob").secret != first
    second = rotate_secret(engine, "ann").secret
    assert read_secret(engine, "ann").secret == second
    let_attempts_run_out(engine)
    assert due(engine).secrets == [second, first]
    with transaction(engine) as connection:
        connection.execute(text("UPDATE webhook_secrets SET previous_until = clock_timestamp()"))
    let_attempts_run_out(engine)
    assert due(engine).secrets == [second]


def test_the_first_delivery_makes_the_secret(engine: Engine) -> None:
    submit(engine, webhook=hook())
    finish(engine)
    assert due(engine).secrets == [read_secret(engine, "ann").secret]


def let_attempts_run_out(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE deliveries SET next_attempt_at = clock_timestamp() WHERE status = 'pending'"))
