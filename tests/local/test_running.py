"""What a running ``kiln up`` shows, and to whom: run.json, ports, and nobody's passwords."""

import json
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from client.doctor import run_settings
from common.settings import Settings
from tests.local.up import Up, environment, running_up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("running")) as started:
        started.run_file()
        yield started


def secrets(up: Up) -> list[str]:
    return list(json.loads((up.home / "credentials.json").read_text()).values())


def test_files_with_passwords_are_their_owner_s_alone(up: Up) -> None:
    holding = [path for path in up.home.glob("*") if path.is_file() and any(s in path.read_text() for s in secrets(up))]
    assert {path.name for path in holding} == {"run.json", "credentials.json", "s3.json", "redis.conf"}
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in holding} == {path.name: "0o600" for path in holding}


def test_no_password_is_in_a_process_list_or_a_log(up: Up) -> None:
    shown = [" ".join(one.cmdline()) for one in up.family()]
    shown += [log.read_text(errors="replace") for log in (up.home / "logs").iterdir()]
    shown.append(up.said())
    assert len(shown) > 15
    assert not [text[:200] for text in shown if any(secret in text for secret in secrets(up))]


def test_everything_listens_on_loopback_alone(up: Up) -> None:
    listening = {
        (one.name(), connection.laddr.ip)
        for one in up.family()
        for connection in one.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type.name == "SOCK_DGRAM"
    }
    assert {"postgres", "weed"} <= {name for name, _ in listening}
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::1"}, listening


def test_run_json_is_all_that_a_script_needs(up: Up) -> None:
    run = up.run_file()
    settings = Settings(**run_settings(run, {}))
    assert settings.database_url.get_secret_value() == run["database"]
    assert {"up", "postgres", "redis", "s3", "api", "sweeper", "worker"} == set(run["pids"])
    assert run["pids"]["up"] == up.process.pid
    assert all(psutil.pid_exists(pid) for pid in run["pids"].values())


def test_the_doctor_finds_everything_well(up: Up) -> None:
    command = [sys.executable, "-m", "client", "doctor", "--json"]
    asked = subprocess.run(
        command, env=environment(KILN_HOME=str(up.home)), capture_output=True, text=True, cwd=up.folder, check=False
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr


def test_a_second_start_in_the_same_home_says_who_is_there(up: Up) -> None:
    with running_up(up.folder) as second:
        assert second.process.wait(timeout=20) == 1
        assert f"already (process {up.process.pid})" in second.said().replace("\n", " ")
    assert up.run_file()["pids"]["up"] == up.process.pid
    assert up.process.poll() is None
