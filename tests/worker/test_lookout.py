"""Idle look-ups: which seats look, and when. That a job is found so without a broker is tests/system's to show."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.jobs.read import list_jobs
from tests.jobs.make import submit
from tests.processes import wait_for
from worker.lookout import Lookout
from worker.workshop import Workshop

OFTEN = (0.05, 0.1)


def statuses(workshop: Workshop) -> set[str]:
    return {job.status for job in list_jobs(workshop.engine, "ann", limit=10)[0]}


def test_a_seat_finds_what_was_there_before_it_and_what_comes_later(workshop: Workshop) -> None:
    submit(workshop.engine)
    with ThreadPoolExecutor(workshop.seats) as seats:
        Lookout(workshop, seats.submit, OFTEN).start()
        wait_for("first job", lambda: statuses(workshop) == {"succeeded"})
        submit(workshop.engine)
        wait_for("second job", lambda: statuses(workshop) == {"succeeded"})
        workshop.draining.set()


def test_a_seat_that_finds_a_job_sends_the_next_and_no_one_looks_when_all_are_taken(workshop: Workshop) -> None:
    sent: list[Callable[[], None]] = []
    lookout = Lookout(workshop, sent.append, OFTEN)
    for _ in range(2):
        submit(workshop.engine)

    lookout._send()
    sent.pop()()
    assert statuses(workshop) == {"succeeded"}
    assert len(sent) == 2, "one for each job that was found"

    sent.clear()
    workshop.seats = 0
    lookout._send()
    assert not sent


def test_a_pool_that_is_shut_down_harms_nobody(workshop: Workshop) -> None:
    seats = ThreadPoolExecutor(1)
    seats.shutdown()
    with pytest.raises(RuntimeError):
        seats.submit(lambda: None)
    Lookout(workshop, seats.submit)._send()
