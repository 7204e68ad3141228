"""What waits for one client: never more than it may cost, and of what does not fit nothing is lost but news."""

import asyncio
from uuid import UUID

import pytest

from api.frames import Frame, tell_news
from api.stream import MOST_CHANGES, MOST_NEWS, Stream
from common.jobs.log import Watch

JOB = UUID(int=1)


def change(number: int, event: str = "running", job: UUID = JOB) -> Frame:
    return Frame(event, "{}", job, None, number)


def news(number: int, event: str = "progress", job: UUID = JOB) -> Frame:
    return Frame(event, f'{{"number": {number}}}', job, None)


@pytest.fixture
def stream() -> Stream:
    made = Stream(Watch("ann"))
    made.begin_reading()
    return made


def taken(stream: Stream) -> list[Frame]:
    return asyncio.run(stream.take(1))


def test_a_client_that_is_too_slow_is_sent_to_the_log_and_nothing_waits_for_it(stream: Stream) -> None:
    for number in range(1, 3 * MOST_CHANGES):
        stream.offer([change(number)])
    assert stream.behind
    assert taken(stream) == []
    stream.begin_reading()
    stream.pass_on([change(3 * MOST_CHANGES)])  # as read from the log
    stream.offer([change(3 * MOST_CHANGES)])
    stream.offer([change(3 * MOST_CHANGES + 1)])
    assert [frame.id for frame in taken(stream)] == [3 * MOST_CHANGES + 1], "what was read is not sent again"


def test_news_are_thinned_to_the_newest_and_are_few(stream: Stream) -> None:
    for number in range(1000):
        stream.show(news(number))
        stream.show(news(number, job=UUID(int=number)))
    found = taken(stream)
    assert len(found) == MOST_NEWS
    assert news(999) in found
    assert news(998) not in found


def test_news_that_a_change_came_after_are_not_told(stream: Stream) -> None:
    stream.show(news(1))
    stream.show(news(2, job=UUID(int=2)))
    stream.offer([change(1, "succeeded")])
    assert taken(stream) == [change(1, "succeeded"), news(2, job=UUID(int=2))]


@pytest.mark.parametrize("data", [None, [], {}, {"job_id": 1, "batch_id": None}, {"job_id": "job_1", "batch_id": 2}])
def test_a_message_that_makes_no_sense_is_no_news(data: object) -> None:
    assert tell_news({"event": "progress", "data": data}) is None
