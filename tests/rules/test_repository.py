"""What may be committed."""

import re
import subprocess
from functools import cache

import pytest

from tests.rules.source import ROOT

# Each pattern is written so that it does not match itself.
LEAKS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY",
    "an access token": r"\b(hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9]{32,})\b",
    "an API key of Kiln": r"\bkiln_[0-9a-f]{12}_[0-9a-f]{64}\b",
    "a build of torch for one kind of machine": r"[+]cpu\b|[+]cu1\d\d\b",
    "a file as a package's address": r"\bfile:/[/]",
    "a path of one machine": r"(?<![\w./}])/(work|root|home/\w+|Users/\w+|tmp/venv)/",
    "a package index": r"\b(pypi[.]org|pythonhosted[.]org|download[.]pytorch[.]org|registry[.]npmjs[.]org)\b",
}
# One leak of each kind, cut in two so that this file is none.
SEEN = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "an access token": "hf_" + "a" * 34,
    "an API key of Kiln": "kiln_" + "0" * 12 + "_" + "0" * 64,
    "a build of torch for one kind of machine": "torch==2.13.0+" + "cpu",
    "a file as a package's address": "kiln @ file:" + "///kiln",
    "a path of one machine": "see /" + "root/notes",
    "a package index": "https://download." + "pytorch.org/whl",
}
BINARY = {".safetensors", ".png", ".webp", ".jpg", ".ico"}


@cache
def committed() -> dict[str, str]:
    """The text files that are committed, or would be, by name. Weights and pictures are left out."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return {p.relative_to(ROOT).as_posix(): p.read_text() for p in paths if p.is_file() and p.suffix not in BINARY}


@pytest.mark.parametrize("what", LEAKS)
def test_nothing_is_committed_that_belongs_to_one_machine_or_person(what: str) -> None:
    """A key that has to be revoked, or an installation that works on the author's machine only."""
    found = {
        f"{name}:{number}": line.strip()[:80]
        for name, text in committed().items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(LEAKS[what], line)
    }
    assert not found


@pytest.mark.parametrize("what", LEAKS)
def test_such_a_leak_would_be_seen(what: str) -> None:
    """The rule above passing because its pattern matches nothing."""
    assert re.search(LEAKS[what], SEEN[what])


def test_a_filled_in_env_file_cannot_be_committed() -> None:
    """Passwords in the history for good."""
    assert ".env" not in committed()
    ignored = subprocess.run(
        ["git", "-c", "safe.directory=*", "check-ignore", "--quiet", "--no-index", ".env"],  # noqa: S607
        cwd=ROOT,
        check=False,
    )
    assert ignored.returncode == 0
