"""Night windows against the clocks of zoneinfo, minute by minute, the nights of daylight saving included."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st

from common.jobs.window import DAYS, Window

BERLIN = ZoneInfo("Europe/Berlin")
SPRING, AUTUMN = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)

zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
clocks = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
windows = st.builds(
    lambda start, end, zone, days: Window(start, end, ZoneInfo(zone), tuple(day for day in DAYS if day in days)),
    clocks,
    clocks,
    zones,
    st.sets(st.sampled_from(DAYS), min_size=1),
).filter(lambda window: window.start != window.end)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(second=0, microsecond=0)
)


def shows_inside(window: Window, moment: datetime) -> bool:
    """Whether the zone's clock shows a time of the window, of a night that a day of it began."""
    local = moment.astimezone(window.zone)
    before = DAYS[(local.weekday() - 1) % 7]
    if window.start < window.end:
        return window.start <= local.time() < window.end and DAYS[local.weekday()] in window.days
    began_today = local.time() >= window.start and DAYS[local.weekday()] in window.days
    return began_today or (local.time() < window.end and before in window.days)


def changes_near(window: Window, moment: datetime) -> bool:
    """Whether clocks are put on or back about then: a time that they show twice is inside throughout."""
    offsets = {(moment + timedelta(hours=hours)).astimezone(window.zone).utcoffset() for hours in (-2, 0, 2)}
    return len(offsets) > 1


@given(windows, moments)
@example(Window(time(22), time(2, 30), BERLIN), SPRING)
@example(Window(time(2, 15), time(2, 45), BERLIN), SPRING)
@example(Window(time(22), time(2, 30), BERLIN), AUTUMN)
def test_the_span_is_when_the_clocks_show_the_window(window: Window, now: datetime) -> None:
    span = window.span(now)
    assert span.opens < span.closes
    assert now < span.closes
    moment = now
    while moment < min(span.closes, now + timedelta(days=2)):
        if not changes_near(window, moment):
            assert shows_inside(window, moment) == (span.opens <= moment), moment
        moment += timedelta(minutes=15)


def test_a_night_in_which_clocks_are_put_on_is_an_hour_shorter_and_one_put_back_an_hour_longer() -> None:
    window = Window(time(22), time(6), BERLIN)
    lengths = [window.span(now) for now in (SPRING - timedelta(days=7), SPRING, AUTUMN)]
    assert [(span.closes - span.opens) / timedelta(hours=1) for span in lengths] == [8, 7, 9]


def test_a_time_that_clocks_skip_is_when_they_skip_it() -> None:
    closes = Window(time(22), time(2, 30), BERLIN).span(SPRING).closes
    assert closes == datetime(2026, 3, 29, 1, tzinfo=UTC)
    skipped = Window(time(2, 15), time(2, 45), BERLIN).span(SPRING)
    assert skipped.opens.astimezone(BERLIN) == datetime(2026, 3, 30, 2, 15, tzinfo=BERLIN)


def test_a_window_survives_its_json() -> None:
    window = Window(time(22), time(6, 30), BERLIN, ("fri", "sat"))
    assert Window.from_json(window.to_json()) == window
    assert window.to_json() == {"start": "22:00", "end": "06:30", "tz": "Europe/Berlin", "days": ["fri", "sat"]}
