"""Plots of the report: scores on a scale that all groups share."""

from hypothesis import given
from hypothesis import strategies as st

from api.plots import EDGE, WIDTH, scale_of

SCORES = st.lists(st.floats(0, 100), min_size=1, max_size=50)


@given(SCORES)
def test_every_score_lies_on_the_scale_and_in_its_order(scores: list[float]) -> None:
    scale = scale_of(scores)
    places = [scale.place(score) for score in sorted(scores)]
    assert places == sorted(places)
    assert EDGE <= places[0] <= places[-1] <= WIDTH - EDGE


@given(SCORES)
def test_ticks_are_few_and_reach_from_end_to_end(scores: list[float]) -> None:
    ticks = scale_of(scores).ticks
    assert 2 <= len(ticks) <= 7
    assert (ticks[0][0], ticks[-1][0]) == (EDGE, WIDTH - EDGE)


def test_ticks_are_round() -> None:
    assert [said for _, said in scale_of([21.92, 36.57]).ticks] == ["20", "25", "30", "35", "40"]
    assert scale_of([25.0]).ticks[0][1] == "25"
