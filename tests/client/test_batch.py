"""`kiln batch` on the running stack: an evening's file of prompts becomes a folder of pictures."""

import hashlib
import io
import json
import signal
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from client.api import Kiln
from tests.client.conftest import Command
from tests.proxy import proxied

HEADER = "prompt,width,height,num_inference_steps,enhance"


@pytest.fixture
def prompts(kiln: Command) -> Path:
    """Three small jobs."""
    file = kiln.folder / "prompts.csv"
    file.write_text("\n".join([HEADER, *(f"a {thing},64,64,1,false" for thing in ("cat", "dog", "fish"))]) + "\n")
    return file


def test_a_file_becomes_a_batch_that_is_watched_and_fetched(kiln: Command, api: Kiln, prompts: Path) -> None:
    done = kiln("batch", "run", "prompts.csv", "--styles", "anime, comic", "--watch", "--json")
    assert done.returncode == 0, done.stderr
    batch = json.loads(done.stdout)
    assert (batch["name"], batch["status"], batch["counts"]["succeeded"]) == ("prompts.csv", "completed", 6)
    assert "completed: 6 succeeded" in done.stderr

    first = json.loads(kiln("batch", "download", batch["id"], "pictures", "--json").stdout)
    assert (first["saved"], first["present"]) == (6, 0)
    files = sorted((kiln.folder / "pictures").iterdir())
    assert [file.name.rsplit("-", 2)[0] for file in files] == [
        f"a-{thing}-{style}" for thing in ("cat", "dog", "fish") for style in ("anime", "comic")
    ]
    sums = {image["sha256"] for job in api.results(batch["id"]) for image in job["images"]}
    assert {hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == sums

    answer = httpx2.get(f"{kiln.environment['KILN_API_URL']}/v1/batches/{batch['id']}/archive", timeout=60)
    assert answer.headers["content-disposition"] == 'attachment; filename="prompts-csv.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        *pictures, results = archive.namelist()
        assert {name: archive.read(name) for name in pictures} == {file.name: file.read_bytes() for file in files}
        assert len(archive.read(results).splitlines()) == 6

    report = kiln("report", batch["id"], "--output", "night.html")
    assert (report.returncode, report.stdout) == (0, "night.html\n"), report.stderr
    page = (kiln.folder / "night.html").read_text()
    assert page.count("data:image/webp;base64,") == 6
    assert page.rstrip().endswith("</html>")
    assert kiln("report", batch["id"], "--format", "csv").stdout == f"{batch['id']}.csv\n"
    assert len((kiln.folder / f"{batch['id']}.csv").read_text().splitlines()) == 7

    cut_off = files[0].with_name(files[0].name + ".part")  # what a download that was killed leaves
    files[0].rename(cut_off)
    cut_off.write_bytes(cut_off.read_bytes()[:100])
    files[1].write_bytes(b"mine")
    second = kiln("batch", "download", batch["id"], "pictures")
    assert second.stdout.startswith("1 saved, 4 were there already")
    assert "something else" in second.stderr
    assert files[1].read_bytes() == b"mine"
    assert (cut_off.exists(), hashlib.sha256(files[0].read_bytes()).hexdigest() in sums) == (False, True)


def test_a_file_of_plain_lines_is_a_prompt_a_line(kiln: Command, api: Kiln) -> None:
    (kiln.folder / "prompts.txt").write_text("a cat\n\n  a dog \n")
    done = kiln("batch", "run", "prompts.txt", "--seeds", "2", "--deadline", "2099-01-01T00:00:00Z")
    batch = done.stdout.strip()
    assert "Queued 4 jobs" in done.stderr
    assert kiln("batch", "cancel", batch).stdout.startswith(f"{batch} canceled")
    jobs = list(api.jobs(limit=4))
    assert sorted(job["input"]["prompt"] for job in jobs) == ["a cat"] * 2 + ["a dog"] * 2


def test_a_file_that_is_cut_off_on_its_way_is_sent_again_and_queued_once(kiln: Command, api: Kiln) -> None:
    """Half a night of prompts, and the other half refused."""
    (kiln.folder / "many.csv").write_text("prompt\n" + "a very small cat\n" * 300)
    address = urlsplit(kiln.environment["KILN_API_URL"])
    with proxied("127.0.0.1", address.port or 80) as proxy:
        proxy.become("clip")
        done = kiln(
            "batch", "run", "many.csv", "--name", "clipped", "--deadline", "2099-01-01T00:00:00Z", "--json",
            KILN_API_URL=f"http://127.0.0.1:{proxy.port}",
        )  # fmt: skip
        assert (proxy.lost, proxy.taken) == (1, 2)
    assert done.returncode == 0, done.stderr
    made = [batch for batch in api.batches(limit=20) if batch["name"] == "clipped"]
    assert [sum(batch["counts"].values()) for batch in made] == [300]
    api.steer(made[0]["id"], "cancel")


def test_a_dry_run_queues_nothing(kiln: Command, api: Kiln, prompts: Path) -> None:
    before = [batch["id"] for batch in api.batches(limit=1)]
    done = kiln("batch", "run", "prompts.csv", "--seeds", "4", "--dry-run")
    assert done.stdout.startswith("12 jobs, 12 pictures, 12 evaluations")
    assert [batch["id"] for batch in api.batches(limit=1)] == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("style\nanime\n", "line 1: has no column prompt"),
        ("prompt,style\n" + "a cat,anime\n" * 15 + "a cat,baroque\n", "line 17, style: 'baroque' is not known"),
        ("", "line 1: is empty"),
        ("prompt\n", "the batch has no jobs"),
        ("prompt,num_images,keep_best\na cat,2,3\n", "line 2, keep_best: must be from 1 to 2"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(kiln: Command, content: str, says: str) -> None:
    (kiln.folder / "wrong.csv").write_text(content)
    done = kiln("batch", "run", "wrong.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--window 22:00-22:00", "--window: must not be the start"),
        ("--window 22:00-06:00 --tz Europe/Atlantis", "--tz: 'Europe/Atlantis' is no zone of the IANA database"),
        ("--tz Europe/Berlin", "--tz: is of a window, and there is none"),
        ("--deadline 2001-01-01T00:00:00Z", "--deadline: must be in the future"),
        ("--seeds 2 --keep-best 3", "--keep-best: must be at most 2"),
        ("--styles anime,baroque", "--styles: 'baroque' is not known; known: "),
    ],
)
def test_an_option_that_is_wrong_is_refused_by_its_name(
    kiln: Command, api: Kiln, prompts: Path, options: str, says: str
) -> None:
    before = [batch["id"] for batch in api.batches(limit=1)]
    done = kiln("batch", "run", prompts.name, *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(says)
    assert [batch["id"] for batch in api.batches(limit=1)] == before


def test_a_file_that_is_not_there_and_a_batch_that_is_not_are_told_in_a_line(kiln: Command) -> None:
    done = kiln("batch", "run", "nowhere.csv")
    assert (done.returncode, done.stderr) == (2, "nowhere.csv cannot be read: No such file or directory.\n")
    done = kiln("batch", "download", f"batch_{'0' * 32}", "pictures")
    assert done.returncode == 2
    assert "there is no batch" in done.stderr
    assert not (kiln.folder / "pictures").exists()


def test_a_window_is_meant_by_this_machines_clock(kiln: Command, prompts: Path) -> None:
    """Four in the afternoon instead of ten at night."""
    done = kiln(
        "batch", "run", "prompts.csv", "--window", "22:00-06:00", "--days", "fri,sat", "--json", TZ="Asia/Tokyo"
    )
    batch = json.loads(done.stdout)
    assert batch["window"] == {"start": "22:00", "end": "06:00", "tz": "Asia/Tokyo", "days": ["fri", "sat"]}
    kiln("batch", "cancel", batch["id"])


def test_a_batch_is_paused_and_goes_on(kiln: Command, prompts: Path) -> None:
    kiln("batch", "run", "prompts.csv", "--seeds", "20")
    (batch,) = json.loads(kiln("batch", "list", "--limit", "1", "--json").stdout)
    assert " paused: " in kiln("batch", "pause", batch["id"]).stdout
    assert " queued: " in (resumed := kiln("batch", "resume", batch["id"]).stdout) or " running: " in resumed
    watched = kiln("batch", "watch", batch["id"])
    assert watched.stdout.strip() == "completed: 60 succeeded"
    assert batch["id"] in kiln("batch", "list").stdout


def test_a_batch_that_is_watched_can_be_left_and_taken_up_again(kiln: Command, prompts: Path) -> None:
    """An evening that ends with Ctrl-C, or does not end."""
    watching = kiln.start("batch", "run", "prompts.csv", "--seeds", "20", "--watch", "--json")
    assert watching.stderr is not None
    batch = watching.stderr.readline().strip()
    assert batch.startswith("batch_")
    assert watching.stderr.readline(), "it says how it stands"
    watching.send_signal(signal.SIGINT)
    told, notes = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert f"kiln batch watch {batch}" in notes
    left = json.loads(told)
    assert left["counts"]["queued"] + left["counts"]["running"] > 0
    again = kiln("batch", "watch", batch)
    assert (again.returncode, again.stdout.strip()) == (0, "completed: 60 succeeded")


def test_who_watched_a_batch_to_its_end_fetches_the_best_alone(kiln: Command, prompts: Path) -> None:
    """Every seed in the folder, for the best are chosen some seconds after the last job."""
    done = kiln("batch", "run", "prompts.csv", "--seeds", "3", "--keep-best", "1", "--watch", "--json")
    assert done.returncode == 0, done.stderr
    batch = json.loads(done.stdout)
    assert (batch["counts"]["succeeded"], batch["keep_best"]) == (9, 1)
    fetched = json.loads(kiln("batch", "download", batch["id"], "best", "--json").stdout)
    assert fetched["saved"] == len(list((kiln.folder / "best").iterdir())) == 3
