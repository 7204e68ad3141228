"""The shipped demo weights against the gates under which they were ordered. Paints a hundred pictures: minutes."""

import numpy as np
import pytest

from common.models import DEMO_WEIGHTS
from demo.gates import JUDGES, Verdict, load_demo, run
from demo.painter import WIDE, Nobody, paint
from demo.trials import demo_trials
from worker.diffusion.device import Device
from worker.stages.diffuse import diffuse
from worker.stages.enhance import enhance

pytestmark = pytest.mark.timeout(1500)  # the first test paints for all


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "whole"])
def verdicts(request: pytest.FixtureRequest) -> list[Verdict]:
    """Of some of the pictures; of all of them, as training measures in the end, with ``make slow``."""
    return run(DEMO_WEIGHTS, JUDGES, whole=request.param)


def missed(verdicts: list[Verdict], gate: int) -> list[Verdict]:
    of_gate = [one for one in verdicts if one.gate == gate]
    assert of_gate
    return [one for one in of_gate if not one.passed]


def test_the_scorer_finds_the_right_caption_among_ten(verdicts: list[Verdict]) -> None:
    assert not missed(verdicts, 1)


def test_so_does_a_judge_that_nothing_else_ever_asked(verdicts: list[Verdict]) -> None:
    """Pictures that please one scorer only."""
    assert not missed(verdicts, 2)


def test_apples_have_the_hue_that_was_asked_for(verdicts: list[Verdict]) -> None:
    assert not missed(verdicts, 3)


def test_styles_are_what_they_are_called(verdicts: list[Verdict]) -> None:
    assert not missed(verdicts, 4)


def test_schedulers_guidance_and_seeds_do_what_they_are_for(verdicts: list[Verdict]) -> None:
    assert not missed(verdicts, 5)


def test_a_picture_takes_seconds(verdicts: list[Verdict]) -> None:
    assert not missed(verdicts, 6)


def test_the_limits_are_those_of_the_order(verdicts: list[Verdict]) -> None:
    """A limit lowered until the weights pass."""
    limits = {(one.gate, one.limit, one.at_most) for one in verdicts}
    assert limits == {
        *((1, limit, False) for limit in (0.95, 0.85)),
        *((2, limit, False) for limit in (0.90, 0.80)),
        (3, 0.90, False),
        *((4, limit, False) for limit in (0.85, 1.0, 0.80, 0.55)),
        (4, 0.05, True),
        *((5, limit, False) for limit in (0.95, 0.85, 0.01)),
        *((5, limit, True) for limit in (0, 0.15)),
        *((6, limit, True) for limit in (6.0, 2.0)),
    }


def test_pictures_painted_together_are_those_that_a_worker_paints() -> None:
    """Gates that are passed by other pictures than users get."""
    model = load_demo(DEMO_WEIGHTS, DEMO_WEIGHTS / "scorer")
    wide, device = Device(WIDE), Device()
    try:
        specs = [trial.spec for trial in demo_trials(2)[:3]]
        for spec, picture in zip(specs, paint(specs, model, wide), strict=True):
            alone = diffuse(spec, enhance(spec, model, device), model, device, Nobody()).images[0]
            assert np.abs(np.asarray(alone, int) - picture).mean() < 1
    finally:
        wide.close()
        device.close()
