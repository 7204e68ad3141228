"""When a worker stops claiming because too much failed, what does not count, and how it begins again."""

from collections import Counter
from dataclasses import replace
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from common.errors import InvalidRequest, KilnError, NumericalError, OutOfDeviceMemory, StorageError
from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.read import list_jobs
from common.jobs.state import Lane
from common.jobs.workers import list_workers
from tests.jobs.make import SPEC, let_pauses_pass, submit
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
LARGE = OutOfDeviceMemory("the picture does not fit")


def attempt(owner: str = "ann", side: int = 64) -> Claim:
    spec = replace(SPEC, width=side, height=side)
    return Claim(uuid4(), 1, uuid4(), spec, Lane.BATCH, 0, 0, owner, None)


def fail(breaker: Breaker, times: int = TOO_MANY, error: KilnError = BROKEN, owner: str = "ann") -> None:
    for _ in range(times):
        breaker.failed(attempt(owner), error)


def is_shut(breaker: Breaker) -> bool:
    """For jobs of any owner; what was allowed is given back."""
    if not breaker.allows():
        return True
    shut = "ann" in breaker.avoid and not breaker.waited
    breaker.unused()
    return shut


def test_one_failure_less_than_too_many_stops_nothing_and_a_success_makes_room(breaker: Breaker) -> None:
    fail(breaker, TOO_MANY - 1)
    assert not is_shut(breaker)
    breaker.succeeded(attempt())
    breaker.succeeded(attempt())
    fail(breaker, TOO_MANY - 1)
    assert not is_shut(breaker)
    assert breaker.reason == ""


def test_too_many_failed_jobs_stop_the_claiming_even_with_a_success_among_them(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.succeeded(attempt())
    fail(breaker, 2)
    assert is_shut(breaker)
    assert "4 of the last 5 attempts failed, the latest with storage_unavailable" in breaker.reason
    assert "secret" not in breaker.reason


def test_what_is_the_jobs_own_fault_stops_nothing(breaker: Breaker) -> None:
    fail(breaker, 20, InvalidRequest("no such scheduler"))
    poisoned = attempt()
    for _ in range(20):
        breaker.failed(poisoned, NumericalError("NaN"))
        breaker.unused()  # canceled
    assert not is_shut(breaker)
    assert breaker.allows(), "a closed breaker allows more than one"


def test_a_picture_too_large_for_the_card_is_the_jobs_fault_where_smaller_ones_were_painted(breaker: Breaker) -> None:
    """A night of one owner, with two hundred too large ones in a row. Where even small ones fail, it is the card."""
    breaker.succeeded(attempt(side=512))
    for _ in range(20):
        breaker.failed(attempt(side=1024), LARGE)
    assert not is_shut(breaker)
    for _ in range(TOO_MANY):
        breaker.failed(attempt(side=512), LARGE)
    assert is_shut(breaker)


def test_other_owners_are_tried_at_once_and_what_goes_well_with_them_is_the_first_ones_trouble(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, owner="mallory")
    assert breaker.allows()
    assert (breaker.avoid, breaker.waited) == ({"mallory"}, False)
    assert not breaker.allows(), "one try at a time"
    breaker.succeeded(attempt("bob"))
    fail(breaker, 50, owner="mallory")
    assert breaker.allows()
    assert breaker.avoid == set()
    clock.now += LONGEST_PAUSE
    fail(breaker, owner="mallory")
    assert breaker.avoid == {"mallory"}, "the card may be broken by now"


def test_a_device_that_ruins_the_jobs_of_all_is_left_alone_after_one_more(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, owner="ann")
    assert breaker.allows()
    fail(breaker, 1, owner="bob")
    assert not breaker.allows()
    assert breaker.avoid == {"ann", "bob"}
    clock.now += FIRST_PAUSE
    assert breaker.allows()
    assert breaker.waited, "where nobody else waits, theirs are tried"
    fail(breaker, 1, owner="cid")
    clock.now += FIRST_PAUSE
    assert not breaker.allows(), "each pause is twice as long"


def test_after_a_pause_one_job_is_tried_and_its_success_opens_the_way(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now = FIRST_PAUSE - 1
    assert is_shut(breaker)
    clock.now = FIRST_PAUSE
    assert breaker.allows()
    assert breaker.waited
    assert not breaker.allows(), "one try at a time"
    breaker.unused()
    assert breaker.allows(), "nothing was due, or it was canceled"
    breaker.succeeded(attempt())
    assert breaker.reason == ""
    fail(breaker, TOO_MANY - 1)
    assert not is_shut(breaker), "what failed before is forgotten"


def test_the_pause_grows_with_each_try_that_fails_but_not_without_end(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    fail(breaker, 3)  # those that were under way
    pauses = []
    for _ in range(6):
        began = clock.now
        while is_shut(breaker):
            clock.now += 1
        assert breaker.allows()
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


@pytest.mark.parametrize("priority", [0, 1000])
def test_one_owner_whose_jobs_all_fail_shuts_no_worker_for_another(
    workshop: Workshop, clock: Clock, priority: int
) -> None:
    """Eight hours in which a worker took a hundred jobs, all of them the attacker's."""
    workshop.breaker = Breaker(clock)
    for _ in range(30):
        submit(workshop.engine, "bob")
    for _ in range(100):
        submit(workshop.engine, "mallory", width=1024, height=1024, priority=priority)
    served = Counter(pass_time(workshop, clock, well={"bob"}) for _ in range(60))
    assert served["nobody"] == 0, "somebody waits, and a seat is free"
    assert served["bob"] >= (12 if priority else 28)


def test_a_broken_card_ruins_no_night_though_one_owner_alone_waits(workshop: Workshop, clock: Clock) -> None:
    workshop.breaker = Breaker(clock)
    for _ in range(60):
        submit(workshop.engine, "ann")
    while clock.now < 3600:
        pass_time(workshop, clock, well=set())
    spent = sum(attempts(workshop))
    assert TOO_MANY < spent < 20
    while pass_time(workshop, clock, well={"ann"}) == "nobody":
        assert clock.now < 3600 + LONGEST_PAUSE
    assert pass_time(workshop, clock, well={"ann"}) == "ann"


def pass_time(workshop: Workshop, clock: Clock, well: set[str]) -> str:
    """One claim of a worker with one seat, the end of its attempt, and whose it was."""
    clock.now += 1
    claim = workshop.claim()
    if claim is None:
        clock.now += 9
        return "nobody"
    with workshop.hold(claim):
        if claim.owner in well:
            workshop.breaker.succeeded(claim)
            lease.cancel(workshop.engine, claim)
        else:
            workshop.breaker.failed(claim, LARGE)
            lease.fail(workshop.engine, claim, LARGE)
    return claim.owner


def break_down(*_: object) -> None:
    raise RuntimeError("the device is not well")


def attempts(workshop: Workshop) -> list[int]:
    return sorted(job.attempt for job in list_jobs(workshop.engine, "ann", limit=100)[0])


def entry(workshop: Workshop) -> tuple[str, str]:
    [worker] = list_workers(workshop.engine, alive_seconds=60)
    return worker.state, worker.detail
