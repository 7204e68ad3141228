"""A home folder in, a running SeaweedFS with an S3 endpoint on loopback out, with its objects kept there."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx2

from common.local import children
from common.local.binaries import find_weed
from common.local.children import Child

# In good order it takes 15 s or more to part from itself. Every write is in the kernel's hands by then, so that an
# end by SIGKILL loses nothing
STOP_SECONDS = 1
PORTS = 8


def start_s3(home: Path, *, ports: Sequence[int], access_key: str, secret_key: str) -> Child:
    """Start master, volume server, filer and S3 gateway in one process, on PORTS loopback ports; S3 has the first."""
    folder = home / "s3"
    folder.mkdir(parents=True, exist_ok=True)
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
    off = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    addresses = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", *others]
    command = [str(find_weed()), "-logtostderr", "server", "-s3", "-dir=.", *addresses, *off]
    # small volumes, and enough of them: each bucket takes seven
    sizes = ["-master.volumeSizeLimitMB=1024", "-master.volumePreallocate=false", "-volume.max=1000"]
    options = [f"-s3.port={ports[0]}", f"-s3.config={identities.resolve()}"]
    return children.start(home, "s3", [*command, *sizes, *options], folder=folder)


def stop_s3(server: Child, ports: Sequence[int]) -> None:
    """End it, and remove the sockets that it leaves in the system's folder for temporary files."""
    server.stop(seconds=STOP_SECONDS)
    for port in ports:
        for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
            left.unlink(missing_ok=True)


def wait_for_s3(server: Child, ports: Sequence[int]) -> None:
    """S3 answers before the volumes have reported to the master; until then it cannot read an object."""
    gateway, master, *_ = ports

    def answering() -> bool:
        try:
            known = httpx2.get(f"http://127.0.0.1:{master}/dir/status", timeout=1).json()["Topology"]["DataCenters"]
            return bool(known) and httpx2.get(f"http://127.0.0.1:{gateway}/healthz", timeout=1).status_code < 500
        except (httpx2.HTTPError, ValueError, KeyError):
            return False

    server.wait_until(answering, seconds=30)
