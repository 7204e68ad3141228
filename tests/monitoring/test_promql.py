"""The reader of expressions sees what there is to see, or the check of the dashboard would pass because it is blind."""

import pytest

from tests.monitoring.promql import grouped, metrics


@pytest.mark.parametrize(
    ("expression", "expected", "groups"),
    [
        ("up", {"up": set()}, set()),
        (
            '60 * sum by (lane) (rate(a_total{lane="x", b=~"c{d}"}[$__rate_interval]))',
            {"a_total": {"lane", "b"}},
            {"lane"},
        ),
        ("histogram_quantile(0.95, sum by (le, stage) (rate(s_bucket[5m])))", {"s_bucket": set()}, {"le", "stage"}),
        ("max(a) == 0 and on (job) b > bool 1.5 or vector(0)", {"a": set(), "b": set()}, {"job"}),
        ('a{b="1"} / ignoring(b) group_left a{c!="2"} offset 5m', {"a": {"b", "c"}}, {"b"}),
    ],
)
def test_names_and_labels_are_found(expression: str, expected: dict[str, set[str]], groups: set[str]) -> None:
    assert metrics(expression) == expected
    assert grouped(expression) == groups
