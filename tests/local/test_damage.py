"""Servers on damaged data, each damage done for real: what is hurt beyond repair is left alone, the rest starts."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from common.local import bucket
from common.local.bucket import keep_bucket
from common.local.services import plan_services, running_services
from common.local.supervisor import Program, Supervisor
from common.settings import Settings
from tests.objects.make import make_objects
from tests.processes import wait_for

AOF = "redis/appendonlydir/appendonly.aof.1.incr.aof"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose servers ran, and hold something."""
    home = tmp_path_factory.mktemp("whole") / "home"
    with running_services(home, durable=False) as services:
        objects = make_objects(services, bucket="kiln")
        objects.ensure_bucket()
        objects.put("images/1.png", b"1" * 1000, "image/png")
    yield home
    if (noted := home / "postgres.place").exists():
        shutil.rmtree(noted.read_text())


@pytest.fixture
def home(whole: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it."""
    copied = tmp_path / "home"
    subprocess.run(["/bin/cp", "-a", whole, copied], check=True)
    if (noted := copied / "postgres.place").exists():
        place = Path(noted.read_text())
        subprocess.run(["/bin/cp", "-a", place, f"{place}-copy"], check=True)
        noted.write_text(f"{place}-copy")
    yield copied
    if noted.exists():
        shutil.rmtree(noted.read_text())


def data(home: Path) -> Path:
    noted = home / "postgres.place"
    return (Path(noted.read_text()) if noted.exists() else home / "postgres") / "data"


def wipe(path: Path, start: int = 0) -> None:
    """Other bytes from ``start`` on, as many as there were."""
    kept = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * (len(kept) - start))


def remove(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def outcome(program: Program) -> tuple[str, list[str]]:
    """What becomes of it, and what is said."""
    said: list[str] = []
    supervisor = Supervisor([program], said.append)

    def decided() -> bool:
        supervisor.look()
        assert supervisor[program.name].ended < 2, said
        return supervisor[program.name].state in ("running", "damaged")

    try:
        wait_for(f"decision about {program.name}", decided, seconds=60)
        return supervisor[program.name].state, said
    finally:
        supervisor.stop()


def program(home: Path, name: str) -> Program:
    return next(each for each in plan_services(home, durable=False)[1] if each.name == name)


@pytest.mark.parametrize(
    ("hurt", "word"),
    [
        (lambda folder: remove(folder, "pg_wal/0*"), "checkpoint record"),
        (lambda folder: remove(folder, "pg_xact"), "could not access status of transaction"),
        (lambda folder: remove(folder, "global"), "pg_control"),
        (lambda folder: (folder / "global" / "pg_control").write_bytes(b""), "pg_control"),
        (lambda folder: wipe(folder / "global" / "pg_control"), "database files are incompatible"),
        (lambda folder: (folder / "PG_VERSION").unlink(), "there is no database in"),
        (lambda folder: (folder / "postgresql.conf").unlink(), "configuration file"),
    ],
    ids=["log", "transactions", "globals", "empty control file", "control file", "version", "configuration"],
)
def test_a_damaged_postgres_is_left_alone(home: Path, hurt: Callable[[Path], None], word: str) -> None:
    hurt(data(home))
    state, said = outcome(program(home, "postgres"))
    assert state == "damaged", said
    assert word in said[0]


def test_a_database_that_is_gone_while_kiln_runs_is_not_begun_anew(home: Path) -> None:
    database = program(home, "postgres")
    child = database.start()
    wait_for("PostgreSQL", partial(database.ready, child))
    database.stop(child)
    data(home).rename(data(home).with_name("unmounted"))
    state, said = outcome(database)
    assert state == "damaged", said
    assert not data(home).exists()


def test_a_postgres_whose_parent_was_killed_amid_a_statement_starts_once_its_processes_have_ended(home: Path) -> None:
    import psycopg

    services, programs = plan_services(home, durable=False)
    database = next(each for each in programs if each.name == "postgres")
    said: list[str] = []
    supervisor = Supervisor([database], said.append)

    def runs() -> bool:
        supervisor.look()
        return supervisor["postgres"].state == "running"

    try:
        wait_for("PostgreSQL", runs)
        child = supervisor["postgres"].child
        assert child
        with psycopg.connect(services.database_url, autocommit=True) as connection:
            # a backend that computes does not see that its parent has died, until it is done
            connection.pgconn.send_query(b"SELECT count(*) FROM (SELECT generate_series(1, 60000000)) AS rows")
            connection.pgconn.flush()
            child.process.send_signal(signal.SIGKILL)
            child.process.wait()
            wait_for("PostgreSQL again", runs, seconds=90)
            assert any("shared memory block" in line for line in said), said
            connection.close()
    finally:
        supervisor.stop()


def test_a_lock_file_whose_number_another_program_has_now_keeps_no_postgres_from_starting(home: Path) -> None:
    folder = data(home)
    user = folder.stat().st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["/bin/sleep", "60"], user=user, cwd="/") as another:
        try:
            lock = folder / "postmaster.pid"
            lock.write_text(f"{another.pid}\n{folder}\n1\n5432\n\n127.0.0.1\n 1 1\nready\n")
            shutil.chown(lock, folder.stat().st_uid)
            state, said = outcome(program(home, "postgres"))
        finally:
            another.kill()
    assert (state, said) == ("running", [])


@pytest.mark.parametrize(
    ("hurt", "word"),
    [
        (lambda home: wipe(home / AOF, 10), "Bad file format"),
        (lambda home: remove(home / "redis" / "appendonlydir", "*.base.rdb"), "Unable to obtain the AOF file"),
        (lambda home: (home / "redis/appendonlydir/appendonly.aof.manifest").write_bytes(b""), "AOF MANIFEST"),
    ],
    ids=["log", "base", "manifest"],
)
def test_a_damaged_valkey_is_left_alone(home: Path, hurt: Callable[[Path], None], word: str) -> None:
    (home / AOF).write_bytes(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
    hurt(home)
    state, said = outcome(program(home, "redis"))
    assert state == "damaged", said
    assert word in said[0]


def test_a_valkey_whose_log_a_kill_cut_short_starts(home: Path) -> None:
    (home / AOF).write_bytes(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5")
    assert outcome(program(home, "redis"))[0] == "running"


@pytest.mark.parametrize("hurt", ["nothing", "filerldb2", "filerldb2/*/*"])
def test_an_object_store_that_lost_its_index_is_left_alone(
    home: Path, hurt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_SURE_SECONDS", 1)
    services, programs = plan_services(home, durable=False)
    settings = Settings.model_validate({name[5:].lower(): value for name, value in services.environment().items()})
    if hurt != "nothing":
        remove(home / "s3", hurt)
    store = next(each for each in programs if each.name == "s3")
    state, said = outcome(keep_bucket(store, home / "s3", settings))
    assert state == ("running" if hurt == "nothing" else "damaged"), said
    assert all("index" in line for line in said)
