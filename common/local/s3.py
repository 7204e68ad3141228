"""A home folder in, a running SeaweedFS with an S3 endpoint on loopback out, with its objects kept there."""

import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx2

from common.local import children
from common.local.binaries import find_weed
from common.local.certificate import write_certificate
from common.local.children import Child, DataDamaged

# In good order it takes 15 s or more to part from itself. Every write is in the kernel's hands by then, so that an
# end by SIGKILL loses nothing
STOP_SECONDS = 1
PORTS = 8
DAMAGE = re.compile(r"^F\d{4} .*(corrupt|super block)")  # it ends over little: see bucket.py
_TOKENS = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")


def start_s3(home: Path, *, ports: Sequence[int], access_key: str, secret_key: str) -> Child:
    """Start master, volume server, filer and S3 gateway in one process, on PORTS loopback ports; S3 has the first.

    S3 asks for the access key. The other ports serve SeaweedFS itself alone: see _closed().
    """
    folder = home / "s3"
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.dat")) and not (folder / "filerldb2").is_dir():
        raise DataDamaged(f"the index of the pictures, {folder / 'filerldb2'}, is gone")  # it would begin an empty one
    for elections in folder.glob("m[0-9]*"):
        shutil.rmtree(elections)  # of a master at this port, it would wait 20 s for an election against itself
    identities = home / "s3.json"
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities.touch(mode=0o600)
    identities.write_text(
        json.dumps({"identities": [{"name": "kiln", "credentials": credentials, "actions": actions}]}),
        encoding="utf-8",
    )
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")]
    others = [f"-{name}={number}" for name, number in zip([*names, "s3.port.grpc"], ports[1:], strict=True)]
    off = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-disableHttp", "-filer.disableHttp"]
    addresses = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", *others]
    command = [str(find_weed()), "-logtostderr", "server", "-s3", "-dir=.", *addresses, *off]
    # small volumes, and enough of them: each bucket takes seven
    sizes = ["-master.volumeSizeLimitMB=1024", "-master.volumePreallocate=false", "-volume.max=1000"]
    options = [f"-s3.port={ports[0]}", f"-s3.config={identities.resolve()}"]
    return children.start(
        home, "s3", [*command, *sizes, *options], environment=os.environ | _closed(home), folder=folder
    )


def _closed(home: Path) -> dict[str, str]:
    """The settings by which SeaweedFS's parts let in each other and nobody else, new at each start.

    Else any program of this machine, and any web page by way of its browser, could list, read and delete what S3
    guards, with a plain GET. gRPC asks for a certificate, the volume server for a signed token; master and filer
    serve no files by HTTP at all (-disableHttp).
    """
    certificate = home.resolve() / "s3.pem"
    write_certificate(certificate)
    parts = ("master", "volume", "filer", "s3", "client")
    pairs = {f"WEED_GRPC_{part.upper()}_{kind}": str(certificate) for part in parts for kind in ("CERT", "KEY")}
    tokens = {f"WEED_JWT_{kind}_KEY": secrets.token_hex(32) for kind in _TOKENS}
    return {"WEED_GRPC_CA": str(certificate)} | pairs | tokens


def stop_s3(server: Child, ports: Sequence[int]) -> None:
    """End it, and remove the sockets that it leaves in the system's folder for temporary files."""
    server.stop(seconds=STOP_SECONDS)
    for port in ports:
        for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
            left.unlink(missing_ok=True)


def wait_for_s3(server: Child, ports: Sequence[int]) -> None:
    server.wait_until(lambda: s3_answers(ports), seconds=30)


def s3_answers(ports: Sequence[int]) -> bool:
    """S3 answers before the volumes have reported to the master; until then it cannot read an object.

    Once they have, the master's page names their server: nothing else of the master's is served by HTTP.
    """
    gateway, master, _, volumes, *_ = ports
    try:
        page = httpx2.get(f"http://127.0.0.1:{master}/", timeout=1).text
        return (
            f"127.0.0.1:{volumes}/" in page
            and httpx2.get(f"http://127.0.0.1:{gateway}/healthz", timeout=1).status_code < 500
        )
    except httpx2.HTTPError:
        return False
