"""Any order of calls keeps every promise of the lease. The rules and what is compared are in machine/."""

from collections import Counter
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.jobs.machine.whole import LeaseMachine


def run_machine(engine: Engine, examples: int, steps: int) -> Counter[str]:
    tally: Counter[str] = Counter()
    run_state_machine_as_test(
        partial(LeaseMachine, engine, tally),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return tally


def test_any_order_of_calls_keeps_every_promise(engine: Engine) -> None:
    tally = run_machine(engine, examples=30, steps=40)
    assert min(tally["written"], tally["refused"]) > 20, tally


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_steps_keep_every_promise(engine: Engine) -> None:
    tally = run_machine(engine, examples=250, steps=50)
    assert tally["steps"] >= 10_000, tally
    assert min(tally[each] for each in ("written", "refused", "repeated", "charges taken back")) >= 5, tally
    print(dict(tally))  # noqa: T201 - what CI's log and `-s` show
