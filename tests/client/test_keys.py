"""`kiln keys` on a real database, and what its keys open and close."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from common.settings import Settings
from tests.client.conftest import KILN, Command
from tests.processes import changed, free_port, running_api, wait_for


@pytest.fixture
def keys(database_url: str, tmp_path: Path) -> Command:
    """`kiln` with a database of its own: the session's stays without keys."""
    return Command(tmp_path, {"KILN_DATABASE_URL": database_url, "PATH": str(KILN.parent), "COLUMNS": "200"})


def test_a_key_opens_the_api_to_its_owner_until_it_is_revoked(
    keys: Command, module_settings: Settings, database_url: str, tmp_path: Path
) -> None:
    settings = changed(module_settings, database_url=SecretStr(database_url))
    key = keys("keys", "create", "ann").stdout.strip()
    with running_api(settings, tmp_path / "api.log") as url:
        refused = keys("jobs", KILN_API_URL=url)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "key" in refused.stderr
        assert keys("jobs", KILN_API_URL=url, KILN_API_KEY=key).stdout == "No jobs.\n"
        (listed,) = json.loads(keys("keys", "list", "--json").stdout)
        assert listed["last_used_at"] is not None
        assert keys("keys", "revoke", listed["id"]).stdout == f"{listed['id']} of ann is revoked\n"
        wait_for("refusal", lambda: keys("jobs", KILN_API_URL=url, KILN_API_KEY=key).returncode == 2)


def test_a_key_is_shown_once_and_then_only_what_is_no_secret(keys: Command) -> None:
    made = json.loads(keys("keys", "create", "ann", "--scope", "read", "--days", "90", "--json").stdout)
    assert (made["owner"], made["scopes"], made["live"], made["revoked_at"]) == ("ann", ["read"], True, None)
    assert made["expires_at"] > made["created_at"]
    assert made["key"].startswith(f"kiln_{made['id']}_")
    listed, plain = keys("keys", "list", "--json").stdout, keys("keys", "list").stdout
    assert json.loads(listed) == [{name: value for name, value in made.items() if name != "key"}]
    assert made["id"] in plain
    assert made["key"].rpartition("_")[2] not in listed + plain


def test_what_cannot_be_done_is_one_sentence(keys: Command) -> None:
    assert keys("keys", "list").stdout == "No keys.\n"
    for arguments in (["revoke", "0" * 12], ["create", ""], ["create", "x" * 65], ["create", "a", "--scope", "root"]):
        refused = keys("keys", *arguments)
        assert (refused.returncode, refused.stdout) == (2, ""), arguments
        assert "Traceback" not in refused.stderr
    away = keys("keys", "list", KILN_DATABASE_URL=f"postgresql://kiln@127.0.0.1:{free_port()}/kiln")
    assert (away.returncode, away.stdout) == (3, "")
    assert "KILN_DATABASE_URL" in away.stderr
    without = Command(keys.folder, {"PATH": str(KILN.parent)})("keys", "list")
    assert "KILN_DATABASE_URL" in without.stderr
