"""What becomes of secrets and prompts on their way into the log, whoever logs them."""

import json
import subprocess
import sys

import pytest

SIGNED = "http://127.0.0.1:1/kiln/a.png?X-Amz-Credential=AK%2F1&X-Amz-Signature=0fed&X-Amz-Expires=900"
KEY = "kiln_" + "0" * 12 + "_" + "f" * 64

SPEAK = """
import logging, sys, threading
import structlog
from common.telemetry import configure_logging
prompts, form = sys.argv[2] == "prompts", sys.argv[3]
configure_logging("info", form, prompts=prompts, secrets=["s3cr3t-of-s3", "0"], worker="host:1:ab")
def speak(said):
    with structlog.contextvars.bound_contextvars(job="job_1", attempt=2, prompt="a heron on a pier"):
        structlog.get_logger().info("ours", reason=said, deep={"a": [said]})
        logging.getLogger("somebody").warning("theirs: %s", said)
        try:
            raise ValueError(said)
        except ValueError:
            logging.getLogger("somebody").exception("broken")
    raise RuntimeError(said)
thread = threading.Thread(target=speak, args=[sys.argv[1]])
thread.start()
thread.join()
"""


def lines(said: str, prompts: str = "") -> list[dict[str, object]]:
    """What a process logs that says ``said`` in every way there is."""
    return [json.loads(line) for line in log(said, prompts, "json").splitlines()]


def log(said: str, prompts: str, form: str) -> str:
    command = [sys.executable, "-c", SPEAK, said, prompts, form]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    return ended.stderr


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        (f"key {KEY} is unknown", "ffff"),
        (f"GET {SIGNED} failed", "0fed"),
        (f"GET {SIGNED} failed", "AK%2F1"),
        ("Authorization: Bearer abc.def", "abc.def"),
        ("no redis://:pass-word@127.0.0.1:1/0", "pass-word"),
        ("no postgresql://kiln:pass-word@db:5432/kiln", "pass-word"),
        ("signed with s3cr3t-of-s3", "s3cr3t-of-s3"),
        ("cannot tokenize 'a heron on a pier'", "heron"),
        ("violates a check\nDETAIL:  Failing row contains (1, grey owl).\n\nThe above", "grey owl"),
        ("x\n  bad [type=string, input_value='grey owl', input_type=str]", "grey owl"),
    ],
)
def test_a_secret_is_hidden_in_every_way_of_saying_it(said: str, secret: str) -> None:
    told = lines(said)
    assert [line["event"].split(":")[0] for line in told] == ["ours", "theirs", "broken", "not caught"]  # type: ignore[attr-defined]
    shown = json.dumps(told[:3] if secret == "heron" else told)  # the last is said after the job
    assert secret not in shown
    assert "***" in shown


def test_a_prompt_stands_on_each_line_of_its_job_where_that_is_asked_for() -> None:
    told = lines("cannot tokenize 'a heron on a pier'", "prompts")
    assert [line.get("prompt") for line in told] == ["a heron on a pier"] * 3 + [None]
    assert "prompt" not in lines("x")[0]


def test_each_line_says_whose_it_is_on_whatever_thread() -> None:
    told = lines("what stands here is no secret: 100 of 100, in 10 s")
    assert {line["worker"] for line in told} == {"host:1:ab"}
    assert [(line.get("job"), line.get("attempt")) for line in told] == [("job_1", 2)] * 3 + [(None, None)]
    assert "100 of 100, in 10 s" in str(told[0]["reason"])
    assert all("Traceback" in str(line["exception"]) for line in told[2:])


@pytest.mark.parametrize(
    "steering",
    ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\x08", "\u202e", "\n2026-01-01 [info ] feigned"],
    ids=ascii,
)
def test_no_line_for_people_steers_a_terminal_or_feigns_another(steering: str) -> None:
    told = log(f"/v1/{steering}jobs", "", "console")
    assert all(char.isprintable() or char == "\n" for char in told)
    assert not [line for line in told.splitlines() if line.startswith("2026-01-01")]
    assert f"/v1/{ascii(steering)[1:-1]}jobs" in told


CHATTER = """
import logging, sys, warnings
library = logging.getLogger("library")
library.addHandler(logging.StreamHandler())
library.propagate = False
from common.telemetry import configure_logging
configure_logging("info", "json", secrets=["s3cr3t-of-s3"])
class Broken:
    def __del__(self):
        raise ValueError("in __del__: s3cr3t-of-s3")
warnings.warn("old: s3cr3t-of-s3", stacklevel=1)
library.getChild("part").warning("by its own handler: s3cr3t-of-s3")
Broken()
"""


def test_what_libraries_and_the_interpreter_say_is_a_line_as_any_other() -> None:
    ended = subprocess.run([sys.executable, "-c", CHATTER], capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ["old" in told[0]["event"], told[1]["event"], told[2]["event"]] == [
        True,
        "by its own handler: ***",
        "not caught",
    ]
    assert "in __del__: ***" in told[2]["exception"]
    assert "s3cr3t-of-s3" not in ended.stderr
