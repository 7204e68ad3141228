"""What schemathesis sends where a body is lines, and how long it waits: SCHEMATHESIS_HOOKS names this module."""

import json
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.api import ends as ends

texts = st.text(max_size=20)
values = st.one_of(texts, st.integers(), st.floats(), st.booleans(), st.none(), st.lists(texts, max_size=2))
fields = st.sampled_from(["prompt", "style", "seed", "num_images", "custom_id", "lane", "metadata"])
jobs = st.dictionaries(st.one_of(fields, texts), values, max_size=4)


def as_lines(found: list[dict[str, object]]) -> bytes:
    return "\n".join(json.dumps(job) for job in found).encode()


def as_table(rows: list[list[str]]) -> bytes:
    return "\r\n".join(",".join(row) for row in rows).encode("utf-8", "replace")


schemathesis.openapi.media_type(
    "application/x-ndjson", st.one_of(st.lists(jobs, max_size=3).map(as_lines), st.binary(max_size=30))
)
schemathesis.openapi.media_type(
    "text/csv",
    st.one_of(
        st.lists(st.lists(st.one_of(fields, texts), max_size=4), max_size=3).map(as_table), st.binary(max_size=30)
    ),
)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """No worker is there: a call that waits for its pictures would wait for minutes."""
    if case.operation.path == "/v1/images/generations":
        case.headers = {**(case.headers or {}), "Prefer": "wait=0"}
