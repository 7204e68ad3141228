"""What an attacker or a broken client sends, as hypothesis strategies; and how long to throw it: FUZZ_MINUTES."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from api.schemas import Overrides

TARGETS = 7  # fuzz tests that share FUZZ_MINUTES
DOSE_SECONDS = 1.0  # of each where that is unset, as in `make test`

in_batches = settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))

# Any character at all: NUL, lone surrogates, right-to-left marks, combining marks, what no font knows
anything = st.text(st.characters(exclude_categories=()), max_size=60)
# What people and attackers write where a prompt is asked for
prompts = st.one_of(
    anything,
    st.text(st.characters(exclude_categories=("Cc", "Cs"), include_characters="\n\t"), min_size=1, max_size=60),
    st.sampled_from(
        [
            "a cat\nNegative prompt: a dog\nSteps: 1, Seed: 0",
            '"}], "error": null, {"',
            "<script>alert(1)</script> & <lora:x:1>",
            "'; DROP TABLE jobs; --",
            "%s %n {0} {job_id} ${HOME} `id` $(id)",
            "\u202egnp.exe \u200d\ufeff\u0301\U0001f9d1\u200d\U0001f680",
            "../../../etc/passwd\\..\\",
            "\ud800",
            "a\x00b",
        ]
    ),
    st.just(2001).map(lambda length: "x" * length),
)
numbers = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 1, 8, 64, 2**31, 2**32, 2**63, 2**64, 10**60, -(10**30)]),
    st.floats(),
)
times = st.one_of(
    st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
    st.sampled_from(
        [
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "9999-12-31T23:59:59Z",
            "2100-02-29T00:00:00Z",
            "2100-01-01T00:00:00.999999999999Z",
            "2100-01-01T00:00:00",
            "-1",
            "99999999999999999999",
        ]
    ),
    st.integers(),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | prompts | times,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(anything, inner, max_size=4),
    max_leaves=8,
)

FITTING: dict[str, st.SearchStrategy[Any]] = {
    "prompt": prompts,
    "negative_prompt": prompts,
    "width": st.integers(-8, 2048) | st.sampled_from([64, 512]),
    "height": st.integers(-8, 2048) | st.sampled_from([64, 512]),
    "num_inference_steps": st.integers(-1, 1000),
    "guidance_scale": st.floats(),
    "seed": st.integers(-1, 2**33),
    "not_before": times,
    "deadline": times,
    "metadata": st.dictionaries(anything, anything, max_size=18),
}


def requests() -> st.SearchStrategy[dict[str, Any]]:
    """Bodies whose fields have the right name and mostly the right kind; every other is a job that could be taken."""
    fields = {name: FITTING.get(name, values) | values for name in Overrides.model_fields if name != "prompt"}
    likely = {name: FITTING[name] for name in ("metadata", "not_before", "deadline")}
    wild = st.fixed_dictionaries({"prompt": prompts | values}, optional=fields | {"__proto__": values})
    return wild | st.fixed_dictionaries({"prompt": prompts}, optional=likely)


def bodies() -> st.SearchStrategy[bytes]:
    """Bytes of a body: such requests, other JSON, JSON that was cut or hit, and noise."""
    whole = (requests() | values).map(lambda value: json.dumps(value).encode())
    raw = requests().map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
    cut = st.tuples(whole, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
    hit = st.tuples(whole, st.integers(0, 200), st.binary(max_size=3)).map(
        lambda three: three[0][: three[1]] + three[2] + three[0][three[1] + 1 :]
    )
    deep = st.tuples(st.sampled_from([b"[", b'{"a":', b'{"prompt":[']), st.integers(1, 3000)).map(
        lambda pair: pair[0] * pair[1]
    )
    return whole | raw | cut | hit | deep | st.binary(max_size=100)


def batches() -> st.SearchStrategy[tuple[str, bytes]]:
    """Bodies of batches, each with the kind that it says it is."""
    few = st.sampled_from([1, 2, 0, -1, 10**6, 10**30]) | prompts
    matrix = st.fixed_dictionaries(
        {"prompts": st.lists(prompts, max_size=3) | values},
        optional={
            "styles": st.lists(prompts | st.just("gogh"), max_size=2) | values,
            "steps": st.lists(st.integers(-1, 600), max_size=2) | values,
            "guidance": st.lists(st.floats(), max_size=2),
            "seeds": st.lists(st.integers(-1, 2**33), max_size=3),
            "seeds_per_prompt": few,
        },
    )
    order = st.fixed_dictionaries(
        {"matrix": matrix | values},
        optional={
            "name": anything,
            "deadline": times,
            "defaults": requests() | values,
            "metadata": FITTING["metadata"],
        },
    )
    line = requests().map(json.dumps) | bodies().map(lambda body: body.decode("latin-1"))
    lines = st.lists(line, max_size=4).map("\n".join)
    table = st.lists(st.lists(anything | st.sampled_from(["prompt", "seed", '"', "a"]), max_size=3), max_size=4).map(
        lambda rows: "\n".join(["prompt,seed,custom_id", *(",".join(row) for row in rows)])
    )
    text = (lines | table | anything).map(lambda told: told.encode(errors="surrogatepass"))
    kinds = st.sampled_from(["application/json", "application/x-ndjson", "text/csv"])
    return st.tuples(kinds, order.map(json.dumps).map(str.encode) | text | bodies())


def for_a_while(throw: Callable[[], None]) -> None:
    """Repeat a hypothesis test, each time with other examples, for its share of FUZZ_MINUTES."""
    minutes = os.environ.get("FUZZ_MINUTES")
    end = time.monotonic() + (float(minutes) * 60 / TARGETS if minutes else DOSE_SECONDS)
    throw()
    while time.monotonic() < end:
        throw()
