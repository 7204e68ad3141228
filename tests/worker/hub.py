"""A stand-in model hub on loopback: folders in, as much of the hub's HTTP interface as huggingface_hub uses out.

Small files come from the hub itself, large ones by redirect from a second server, as the real hub does it.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

LARGE = 100_000  # bytes; from here on a file has a SHA-256 in the listing and lies on the second server


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    host: str


@dataclass
class StandInHub:
    """Repositories by id, the commit that every branch means, and what happened.

    ``cuts``: the next answers to a large file end after so many bytes. ``broken``: large files answer 503.
    ``gated``: these repositories ask for consent.
    """

    repositories: dict[str, Path] = field(default_factory=dict)
    commit: str = "1" * 40
    earlier: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)
    broken: bool = False
    gated: set[str] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)
    endpoint: str = ""
    files_host: str = ""

    def move_branch(self, commit: str) -> None:
        """Let the branch mean ``commit``; the commits before stay there, as on a real hub."""
        self.earlier.add(self.commit)
        self.commit = commit

    def knows(self, revision: str) -> bool:
        return revision in {"main", self.commit, *self.earlier}

    def fetched(self) -> list[str]:
        """Paths of the files that were asked for, each once, without the repository."""
        found = [match[1] for one in self.seen if (match := re.search(r"/resolve/[^/]+/(.+)", one.path))]
        return sorted(set(found))


@contextmanager
def serve_hub(hub: StandInHub) -> Iterator[StandInHub]:
    """Serve ``hub`` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, hub)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}) for server in servers]
    hub.endpoint, hub.files_host = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def _answer(request: BaseHTTPRequestHandler, hub: StandInHub) -> None:
    headers = request.headers
    host = "http://" + str(headers["Host"])
    hub.seen.append(Seen(request.command, request.path, headers["Range"], headers["Authorization"], host))
    path = urlsplit(request.path).path
    if match := re.fullmatch(r"/api/models/(.+)/revision/([^/]+)", path):
        _list(request, hub, match[1], match[2])
    elif match := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
        _give(request, hub, match[1], match[2], match[3], host)
    else:
        _refuse(request, 404, "EntryNotFound")


def _list(request: BaseHTTPRequestHandler, hub: StandInHub, repository: str, revision: str) -> None:
    if repository in hub.gated:
        return _refuse(request, 403, "GatedRepo")
    if repository not in hub.repositories:
        return _refuse(request, 404, "RepoNotFound")
    if not hub.knows(revision):
        return _refuse(request, 404, "RevisionNotFound")
    folder = hub.repositories[repository]
    siblings = [_sibling(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
    commit = hub.commit if revision == "main" else revision
    body = json.dumps({"id": repository, "modelId": repository, "sha": commit, "siblings": siblings})
    return _send(request, 200, body.encode(), {"Content-Type": "application/json"})


def _sibling(folder: Path, path: Path) -> dict[str, object]:
    content = path.read_bytes()
    entry: dict[str, object] = {
        "rfilename": path.relative_to(folder).as_posix(),
        "size": len(content),
        "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),  # noqa: S324 - git's
    }
    if len(content) >= LARGE:
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _give(
    request: BaseHTTPRequestHandler, hub: StandInHub, repository: str, revision: str, path: str, host: str
) -> None:
    file = hub.repositories.get(repository, Path("/nowhere")) / path
    if not hub.knows(revision) or not file.is_file():
        return _refuse(request, 404, "EntryNotFound")
    content = file.read_bytes()
    named = {"X-Repo-Commit": hub.commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
    if len(content) < LARGE:
        return _send(request, 200, content, named)
    if host != hub.files_host:
        return _send(request, 302, b"", {**named, "Location": hub.files_host + request.path})
    if hub.broken and not hub.cuts:
        return _refuse(request, 503, "")
    return _send_range(request, hub, content, named)


def _send_range(request: BaseHTTPRequestHandler, hub: StandInHub, content: bytes, named: dict[str, str]) -> None:
    start = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", request.headers["Range"] or "")) else 0
    if start:
        named["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    cut = hub.cuts.pop(0) if hub.cuts else None
    _send(request, 206 if start else 200, content[start:], named, cut)


def _send(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body[:cut])
    if cut is not None:
        request.close_connection = True


def _refuse(request: BaseHTTPRequestHandler, status: int, code: str) -> None:
    _send(request, status, b"", {"X-Error-Code": code, "X-Error-Message": code} if code else {})
