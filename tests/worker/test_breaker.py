"""When a worker stops claiming because too much failed, what does not count, and how it begins again."""

from dataclasses import replace
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from common.errors import InvalidRequest, KilnError, NumericalError, StorageError
from common.jobs.read import list_jobs
from common.jobs.workers import list_workers
from tests.jobs.make import let_pauses_pass, submit
from worker.breaker import FIRST_PAUSE, LONGEST_PAUSE, TOO_MANY, Breaker
from worker.heartbeat import Heartbeat
from worker.tasks import work
from worker.workshop import Workshop


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


BROKEN = StorageError("the object store failed at images/secret/1/0.png: 403")


def fail(breaker: Breaker, times: int = TOO_MANY, error: KilnError = BROKEN) -> None:
    for _ in range(times):
        breaker.failed(uuid4(), error)


def test_one_failure_less_than_too_many_stops_nothing_and_a_success_makes_room(breaker: Breaker) -> None:
    fail(breaker, TOO_MANY - 1)
    assert breaker.allows()
    breaker.succeeded()
    breaker.succeeded()
    fail(breaker, TOO_MANY - 1)
    assert breaker.allows()
    assert breaker.reason == ""


def test_too_many_failed_jobs_stop_the_claiming_even_with_a_success_among_them(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.allows()
    assert "4 of the last 5 attempts failed, the latest with storage_unavailable" in breaker.reason
    assert "secret" not in breaker.reason


def test_what_is_the_jobs_own_fault_stops_nothing(breaker: Breaker) -> None:
    fail(breaker, 20, InvalidRequest("no such scheduler"))
    poisoned = uuid4()
    for _ in range(20):
        breaker.failed(poisoned, NumericalError("NaN"))
        breaker.unused()  # canceled
    assert breaker.allows()
    assert breaker.allows(), "a closed breaker allows more than one"


def test_after_a_pause_one_job_is_tried_and_its_success_opens_the_way(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now = FIRST_PAUSE - 1
    assert not breaker.allows()
    clock.now = FIRST_PAUSE
    assert breaker.allows()
    assert not breaker.allows(), "one try at a time"
    breaker.unused()
    assert breaker.allows(), "nothing was due, or it was canceled"
    breaker.succeeded()
    assert breaker.reason == ""
    fail(breaker, TOO_MANY - 1)
    assert breaker.allows(), "what failed before is forgotten"


def test_the_pause_grows_with_each_try_that_fails_but_not_without_end(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    fail(breaker, 3)  # those that were under way
    pauses = []
    for _ in range(6):
        began = clock.now
        while not breaker.allows():
            clock.now += 1
        pauses.append(clock.now - began)
        fail(breaker, 1)
    assert pauses == [FIRST_PAUSE, 60, 120, 240, LONGEST_PAUSE, LONGEST_PAUSE]


def test_a_worker_that_cannot_paint_leaves_the_rest_of_the_queue_alone_until_it_can(
    workshop: Workshop, clock: Clock
) -> None:
    workshop.breaker = Breaker(clock)
    heartbeat = Heartbeat(workshop)
    for _ in range(TOO_MANY + 2):
        submit(workshop.engine)
    well = dict(workshop.models)
    workshop.models.update({name: replace(model, text_encoder=break_down) for name, model in well.items()})

    with capture_logs() as logs:
        work(workshop)

    assert attempts(workshop) == [0] * 2 + [1] * TOO_MANY, "two were never touched"
    heartbeat.say("ready")  # not started: writes at once
    assert entry(workshop) == ("unready", workshop.breaker.reason)
    assert [line["reason"] for line in logs if "nothing is claimed" in line["event"]] == [workshop.breaker.reason]

    let_pauses_pass(workshop.engine)
    work(workshop)
    assert attempts(workshop) == [0] * 2 + [1] * TOO_MANY, "nor are they before the pause is over"
    workshop.models.update(well)
    clock.now += FIRST_PAUSE
    work(workshop)

    assert {job.status for job in list_jobs(workshop.engine, "ann", limit=10)[0]} == {"succeeded"}
    heartbeat.say("ready")
    assert entry(workshop) == ("ready", "")


def break_down(*_: object) -> None:
    raise RuntimeError("the device is not well")


def attempts(workshop: Workshop) -> list[int]:
    return sorted(job.attempt for job in list_jobs(workshop.engine, "ann", limit=10)[0])


def entry(workshop: Workshop) -> tuple[str, str]:
    [worker] = list_workers(workshop.engine, alive_seconds=60)
    return worker.state, worker.detail
