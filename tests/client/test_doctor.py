"""`kiln doctor` on the running stack, and with one service out of reach at a time."""

import json
import subprocess

from tests.client.conftest import Command

NAMES = ["device", "database", "broker", "bucket", "weights", "api", "workers"]
NOWHERE = "127.0.0.1:9"


def broken(done: subprocess.CompletedProcess[str]) -> list[str]:
    report = json.loads(done.stdout)
    assert [check["name"] for check in report["checks"]] == NAMES
    assert report["ok"] is all(check["ok"] for check in report["checks"])
    return [check["name"] for check in report["checks"] if not check["ok"]]


def test_everything_is_ok_on_the_running_stack(kiln: Command) -> None:
    done = kiln("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["ok", name] for name in NAMES]


def test_run_json_tells_where_everything_is(kiln: Command) -> None:
    settings = {name: value for name, value in kiln.environment.items() if name.startswith("KILN_")}
    names = ("ENDPOINT_URL", "ACCESS_KEY", "SECRET_KEY", "BUCKET")
    run = {
        "api": settings["KILN_API_URL"],
        "database": settings["KILN_DATABASE_URL"],
        "broker": settings["KILN_BROKER_URL"],
        "storage": {name.lower(): settings[f"KILN_S3_{name}"] for name in names},
    }
    (kiln.folder / ".kiln").mkdir()
    (kiln.folder / ".kiln" / "run.json").write_text(json.dumps(run))
    bare = {name: value for name, value in kiln.environment.items() if name not in settings}
    done = Command(kiln.folder, bare)("doctor", "--json")
    assert (done.returncode, broken(done)) == (0, []), done.stdout


def test_the_broken_one_is_named_with_what_to_do(kiln: Command) -> None:
    done = kiln("doctor", "--json", KILN_BROKER_URL=f"redis://:hush-hush@{NOWHERE}/0")
    assert (done.returncode, broken(done)) == (1, ["broker"])
    check = json.loads(done.stdout)["checks"][NAMES.index("broker")]
    assert "refused" in check["detail"]
    assert "KILN_BROKER_URL" in check["advice"]
    assert "hush-hush" not in done.stdout + done.stderr


def test_everything_that_is_broken_is_named_at_once(kiln: Command) -> None:
    done = kiln(
        "doctor",
        "--json",
        KILN_DATABASE_URL=f"postgresql://kiln:hush-hush@{NOWHERE}/kiln",
        KILN_S3_BUCKET="there-is-no-such-bucket",
        KILN_DEVICE="cuda:99",
        KILN_SERVE="sd-v1-4",
    )
    assert (done.returncode, broken(done)) == (1, ["device", "database", "bucket", "weights"])
    assert all(check["detail"] and check["advice"] for check in json.loads(done.stdout)["checks"] if not check["ok"])
    assert "hush-hush" not in done.stdout + done.stderr


def test_an_api_that_is_away_fails_the_two_checks_that_need_it(kiln: Command) -> None:
    done = kiln("doctor", "--json", KILN_API_URL=f"http://{NOWHERE}")
    assert (done.returncode, broken(done)) == (1, ["api", "workers"])


def test_an_address_that_cannot_be_read_does_not_show_its_password(kiln: Command) -> None:
    done = kiln("doctor", KILN_BROKER_URL="redis://:hush/hush@127.0.0.1:6379/0")
    assert done.returncode == 1
    assert "failed  settings" in done.stdout
    assert "KILN_BROKER_URL" in done.stdout
    assert "hush" not in done.stdout + done.stderr


def test_without_any_settings_each_missing_one_is_named(kiln: Command) -> None:
    bare = {name: value for name, value in kiln.environment.items() if not name.startswith("KILN_")}
    done = Command(kiln.folder, {**bare, "KILN_API_URL": kiln.environment["KILN_API_URL"]})("doctor")
    assert done.returncode == 1
    assert "failed  settings" in done.stdout
    assert "KILN_DATABASE_URL" in done.stdout
    assert "kiln up" in done.stdout


def test_gc_says_what_it_would_remove_and_spares_the_young(kiln: Command) -> None:
    assert kiln("generate", "a red apple", "--steps", "1", "--output", "pictures/").returncode == 0
    dry = kiln("gc", "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"seen": 0, "garbage": 0, "bytes": 0, "removed": False, "keys": []}
    assert kiln("gc").stdout == "0 of 0 objects older than a day removed, 0.0 MB\n"
