"""A plan is what it multiplies out to: every number that it tells, and everything that is wrong."""

import io
import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.expand import AXES, expand, read_lines
from api.orders import BatchRequest, LineOptions
from api.plan import Plan
from api.resolve import resolve
from api.schemas import JobRequest
from common.errors import InvalidRequest
from common.jobs.best import fewest_pictures
from common.jobs.submit import Submission
from common.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "database_url": "postgresql://x",
        "broker_url": "redis://x",
        "s3_endpoint_url": "http://x",
        "s3_access_key": "x",
        "s3_secret_key": "x",
        "max_cost": 1024 * 1024 * 250,
        "max_batch_jobs": 500,
    }
)


def some(*values: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3)


matrices = st.fixed_dictionaries(
    {"prompts": some("a cat", "e\u0301", "\u00e9", " ", "a\x00")},
    optional={
        "styles": some("anime", "Van Gogh", "gogh", "baroque"),
        "schedulers": some("heun_discrete", "lms_discrete", "euler"),
        "steps": some(1, 2, 249, 500, 0),
        "guidance": some(1.0, 7.5, -1.0),
        "seeds": some(1, 2, -1),
    },
)
good = st.fixed_dictionaries(
    {"prompts": some("a cat", "e\u0301", "\u00e9")},
    optional={
        "styles": some("anime", "Van Gogh", "gogh"),
        "schedulers": some("heun_discrete", "lms_discrete"),
        "steps": some(1, 2, 20),
        "guidance": some(1.0, 7.5),
        "seeds": some(1, 2),
    },
)
commons = st.fixed_dictionaries(
    {}, optional={"width": st.sampled_from([64, 512, 1024, 500]), "num_images": st.integers(1, 3), "seed": st.just(7)}
)


def one_by_one(matrix: dict[str, Any], common: dict[str, Any]) -> tuple[list[Submission], set[str]]:
    """Each combination resolved by itself; and the pointers of all that is wrong."""
    fields = {"prompts": "prompt", **AXES, "seeds": "seed"}
    names = [name for name in fields if name in matrix]  # not seeds_per_prompt
    jobs, wrong = [], set()
    for places in itertools.product(*(range(len(matrix[name])) for name in names)):
        chosen = {fields[name]: matrix[name][place] for name, place in zip(names, places, strict=True)}
        at = {fields[name]: f"/matrix/{name}/{place}" for name, place in zip(names, places, strict=True)}
        try:
            jobs.append(resolve(JobRequest.model_construct(**common | chosen), SETTINGS, owner="ann"))
        except InvalidRequest as error:
            wrong |= {at.get(one.pointer[1:], f"/defaults{one.pointer}") for one in error.errors}
    return jobs, wrong


def unseeded(job: Submission) -> tuple[Any, ...]:
    return tuple(value for name, value in job.spec.to_json().items() if name != "seed")


@settings(max_examples=300, deadline=None)
@given(matrices | good, commons, st.none() | st.integers(1, 4))
def test_a_matrix_is_what_each_of_its_combinations_would_be(
    matrix: dict[str, Any], common: dict[str, Any], seeds: int | None
) -> None:
    times = 1 if "seeds" in matrix else seeds or 1
    if "seeds" not in matrix and seeds:
        matrix = matrix | {"seeds_per_prompt": seeds}
    expected, wrong = one_by_one(
        {name: values for name, values in matrix.items() if name != "seeds_per_prompt"}, common
    )
    request = BatchRequest.model_validate({"matrix": matrix, "defaults": common})
    if wrong:
        with pytest.raises(InvalidRequest) as refused:
            expand(request, SETTINGS, "ann")
        found = {one.pointer for one in refused.value.errors}
        assert found
        assert found <= wrong
        missed = {pointer.rpartition("/")[0] for pointer in wrong - found}  # a value is named where it stands first
        assert missed <= {pointer.rpartition("/")[0] for pointer in found}
        return
    plan = expand(request, SETTINGS, "ann")
    made = list(plan.submissions())
    assert list(map(unseeded, made)) == [unseeded(job) for job in expected for _ in range(times)]
    if "seeds" in matrix:
        assert [job.spec.seed for job in made] == [job.spec.seed for job in expected]
    numbers_agree(plan, made)


@settings(max_examples=100, deadline=None)
@given(some("a", "b", "a"), st.lists(st.sampled_from(["anime", "comic"]), max_size=3), st.none() | st.integers(1, 3))
def test_lines_are_what_each_of_them_would_be(prompts: list[str], styles: list[str], seeds: int | None) -> None:
    body = "\n".join(json.dumps({"prompt": prompt, "num_images": 2}) for prompt in prompts).encode()
    options = LineOptions(styles=styles, seeds_per_line=seeds)
    plan = read_lines(io.BytesIO(body), options, SETTINGS, "ann", as_csv=False)
    made = list(plan.submissions())
    assert [(job.spec.prompt, job.spec.style) for job in made] == [
        (prompt, style) for prompt in prompts for style in styles or ["cinematic"] for _ in range(seeds or 1)
    ]
    numbers_agree(plan, made)


def numbers_agree(plan: Plan, made: list[Submission]) -> None:
    assert plan.jobs == len(made)
    kinds = list(plan.kinds())
    assert sum(count for _, count in kinds) == len(made)
    for number in (
        lambda spec: spec.evaluations,
        lambda spec: spec.num_images,
        lambda spec: spec.width * spec.height * (spec.keep_best or spec.num_images),
    ):
        assert sum(number(spec) * count for spec, count in kinds) == sum(number(job.spec) for job in made)
    assert plan.fewest_pictures() == fewest_pictures(job.spec for job in made)


@pytest.mark.parametrize(
    "matrix",
    [
        {"prompts": ["a"], "seeds_per_prompt": 100_000},
        {"prompts": ["a"] * 46, "styles": ["gogh"] * 46, "steps": list(range(1, 47))},
        {"prompts": ["a"], "styles": ["gogh"] * 100, "steps": list(range(1, 101)), "guidance": [1.0] * 10},
        {"prompts": ["a"] * 1000, "seeds": list(range(100))},
    ],
    ids=["seeds", "three lists", "four lists", "seeds that are given"],
)
def test_a_small_request_for_many_jobs_costs_little(matrix: dict[str, Any]) -> None:
    """Sixty-nine bytes, and the API's one processor for a dozen seconds."""
    request = BatchRequest.model_validate({"matrix": matrix})
    many = SETTINGS.model_copy(update={"max_batch_jobs": 100_000})
    expand(request, many, "ann")
    started = time.thread_time()
    plan = expand(request, many, "ann")
    jobs = sum(count for _, count in plan.kinds())
    plan.fewest_pictures()
    assert time.thread_time() - started < 0.05
    assert jobs == plan.jobs > 90_000


@pytest.mark.parametrize("each", [500, 10**6])
def test_what_is_too_much_is_refused_before_it_is_looked_at(each: int) -> None:
    numbers = [float(number) for number in range(each)]
    request = BatchRequest.model_validate({"matrix": {"prompts": ["a"], "guidance": numbers, "seeds_per_prompt": 2}})
    started = time.thread_time()
    with pytest.raises(InvalidRequest, match="over 500 jobs"):
        expand(request, SETTINGS, "ann")
    assert time.thread_time() - started < 0.05
