"""`kiln generate` and `kiln watch` on the running stack: pictures in files, and what they say and end with."""

import hashlib
import json
import os
import pty
import re
import signal
from pathlib import Path

import pytest

from client.api import Kiln
from tests.client.conftest import Command, wait_for

LONG = ("--steps", "500", "--num-images", "8")  # minutes: time to interrupt or cancel


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_picture_is_saved_with_the_bytes_that_the_worker_stored(kiln: Command, api: Kiln, tmp_path: Path) -> None:
    done = kiln("generate", "an orange cat", "--seed", "32", "--steps", "4")
    assert done.returncode == 0, done.stderr
    picture = tmp_path / "an-orange-cat-0.png"
    assert done.stdout.startswith("an-orange-cat-0.png  seed 32  CLIP score ")
    assert "\nprompt: " in done.stdout
    job = next(api.jobs(limit=1))
    assert digest(picture) == job["images"][0]["sha256"]
    assert f"CLIP score {job['images'][0]['clip_score']:.2f}" in done.stdout
    assert job["enhanced_prompt"] in done.stdout


def test_with_json_stdout_is_one_document_and_nothing_steers_a_terminal(kiln: Command, tmp_path: Path) -> None:
    done = kiln("generate", "two cats", "-n", "2", "--steps", "4", "--seed", "7", "--output", "a folder", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["status"], len(job["files"])) == ("succeeded", 2)
    for image, file in zip(job["images"], job["files"], strict=True):
        assert file["path"] == f"a folder/two-cats-{image['index']}.png"
        assert digest(tmp_path / file["path"]) == image["sha256"]
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == "succeeded"


def test_every_option_reaches_the_job(kiln: Command, tmp_path: Path) -> None:
    options = {
        "--style": ("anime", "style", "anime"),
        "--steps": ("3", "num_inference_steps", 3),
        "--seed": ("5", "seed", 5),
        "-n": ("2", "num_images", 2),
        "--keep-best": ("1", "keep_best", 1),
        "--negative": ("rain", "negative_prompt", "rain"),
        "--scheduler": ("heun_discrete", "scheduler", "heun_discrete"),
        "--guidance": ("3.5", "guidance_scale", 3.5),
        "--width": ("64", "width", 64),
        "--height": ("72", "height", 72),
        "--model": ("demo", "model", "demo"),
        "--output": ("cat.webp", "output_format", "webp"),
    }
    given = [word for option, (value, _, _) in options.items() for word in (option, value)]
    done = kiln("generate", "a cat", "--no-enhance", "--json", *given)
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert {field: job["input"][field] for _, field, _ in options.values()} == {f: v for _, f, v in options.values()}
    assert job["input"]["enhance"] is False
    assert [file["path"] for file in job["files"]] == ["cat.webp"]
    assert (tmp_path / "cat.webp").read_bytes()[8:12] == b"WEBP"


def test_an_unknown_style_is_refused_with_the_known_ones(kiln: Command) -> None:
    done = kiln("generate", "a cat", "--style", "cubist")
    assert done.returncode == 2
    assert done.stderr.startswith("--style: 'cubist' is not known")
    assert all(style in done.stderr for style in ("gogh", "cinematic", "pixelart", "none"))
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--width", "500"), "--width: must be divisible by 8"),
        (("--steps", "501"), "--steps: must be from 1 to 500"),
        (("--guidance", "nan"), "--guidance: "),
        (("--model", "sd-v9"), "--model: 'sd-v9' is not known"),
    ],
)
def test_a_refused_field_is_named_by_its_option(kiln: Command, options: tuple[str, ...], named: str) -> None:
    done = kiln("generate", "a cat", *options, "--json")
    assert done.returncode == 2
    assert named in done.stderr
    assert json.loads(done.stdout)["error"]["status"] == 422


def test_a_prompt_that_is_not_unicode_is_refused_by_name(kiln: Command) -> None:
    done = kiln("generate", os.fsdecode(b"caf\xe9"))
    assert done.returncode == 2
    assert done.stderr.startswith("PROMPT: ")


def test_a_queued_job_is_shown_canceled_and_watched_to_its_end(kiln: Command) -> None:
    queued = kiln("generate", "a slow cat", *LONG, "--no-wait")
    assert queued.returncode == 0, queued.stderr
    job_id = queued.stdout.strip()
    assert f"kiln watch {job_id}" in queued.stderr
    shown = json.loads(kiln("show", job_id, "--json").stdout)
    assert (shown["id"], shown["input"]["num_inference_steps"]) == (job_id, 500)
    assert "a slow cat" in kiln("show", job_id).stdout
    assert kiln("cancel", job_id).returncode == 0
    watched = kiln("watch", job_id)
    assert watched.returncode == 1
    assert f"Job {job_id} was canceled." in watched.stderr
    assert kiln("cancel", job_id).stdout == f"{job_id} is canceled\n"


def test_a_canceled_job_ends_generate_with_1_and_one_document(kiln: Command, api: Kiln) -> None:
    running = kiln.start("generate", "a cat that is called back", *LONG, "--json")
    job = wait_for(lambda: find(api, "a cat that is called back"), "the job to be queued")
    api.cancel(job["id"])
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1, err
    assert json.loads(out)["status"] == "canceled"


def test_ctrl_c_leaves_the_job_running_and_says_how_to_reach_it(kiln: Command, api: Kiln) -> None:
    running = kiln.start("generate", "a cat left alone", *LONG)
    job = wait_for(lambda: find(api, "a cat left alone"), "the job to be queued")
    assert running.stderr is not None
    running.stderr.readline()  # the first line of progress: it is waiting now
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 130, err
    assert f"Job {job['id']} goes on" in err
    assert f"kiln watch {job['id']}" in err
    assert f"kiln cancel {job['id']}" in err
    assert "Traceback" not in out + err
    assert api.job(job["id"])["status"] in ("queued", "running")
    api.cancel(job["id"])


def test_a_job_queued_yesterday_is_watched_and_its_picture_saved(kiln: Command, api: Kiln, tmp_path: Path) -> None:
    job_id = api.submit("a patient cat", num_inference_steps=4)["id"]
    done = kiln("watch", job_id, "-o", "later.png")
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "later.png") == api.job(job_id)["images"][0]["sha256"]


def test_on_a_terminal_the_stages_have_bars_with_evaluations(kiln: Command) -> None:
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "100"}
    running = kiln.start("generate", "a cat on a terminal", "--steps", "120", stderr=theirs, **environment)
    os.close(theirs)
    seen = b""
    try:
        while block := os.read(ours, 4096):
            seen += block
    except OSError:  # Linux says EIO when the other end is closed
        pass
    os.close(ours)
    assert running.wait(timeout=60) == 0
    text = seen.decode()
    assert all(stage in text for stage in ("queue", "enhance", "diffuse", "score", "store"))
    assert re.search(r"\d+/120 evaluations, about .* left", text), text


def find(api: Kiln, prompt: str) -> dict[str, object] | None:
    """The job of ``prompt`` that is not over yet."""
    alive = (job for job in api.jobs(limit=20) if job["status"] in ("queued", "running"))
    return next((job for job in alive if job["input"]["prompt"] == prompt), None)
