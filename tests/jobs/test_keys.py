"""API keys in the database: what is kept of them, and when they are good no longer."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from common.db import transaction
from common.jobs.keys import ApiKey, Scope, any_key, create_key, find_key, list_keys, note_use, public_id, revoke_key
from tests.processes import wait_for


def test_nothing_that_is_kept_holds_the_key_or_its_secret(engine: Engine) -> None:
    key, kept = create_key(engine, "ann", [Scope.READ])
    secret = key.rpartition("_")[2]
    assert len(bytes.fromhex(secret)) == 32
    with transaction(engine) as connection:
        row = str(connection.execute(text("SELECT api_keys::text FROM api_keys")).scalar_one())
    assert kept.id in row
    assert secret not in row
    assert secret not in row.encode().hex()


def test_a_key_is_found_by_its_public_id_and_only_its_own_text_matches(engine: Engine) -> None:
    key, made = create_key(engine, "ann", [Scope.READ, Scope.SUBMIT])
    other, _ = create_key(engine, "ann", [Scope.READ])
    assert public_id(key) == made.id
    found = found_key(engine, key)
    assert found == made
    assert (found.owner, found.scopes, found.live) == ("ann", {Scope.READ, Scope.SUBMIT}, True)
    assert found.matches(key)
    for wrong in (other, key[:-1] + ("0" if key[-1] != "0" else "1"), key[:-1], key + "0", "", "é"):
        assert not found.matches(wrong)


@pytest.mark.parametrize("text", ["", "kiln_", "kiln__", "kiln_0123456789ab_" + "g" * 64, "k" * 100_000, "é\x00"])
def test_what_has_not_the_form_of_a_key_has_no_id(text: str) -> None:
    assert public_id(text) is None


def test_admin_may_what_the_others_may_and_none_of_them_more(engine: Engine) -> None:
    for given, allowed in {Scope.SUBMIT: {Scope.SUBMIT}, Scope.READ: {Scope.READ}, Scope.ADMIN: set(Scope)}.items():
        _, key = create_key(engine, "ann", [given])
        assert {scope for scope in Scope if key.allows(scope)} == allowed


def test_a_revoked_key_is_dead_for_good_and_still_counts_as_made(engine: Engine) -> None:
    assert not any_key(engine)
    key, made = create_key(engine, "ann", [Scope.READ])
    revoked = revoke_key(engine, made.id)
    again = revoke_key(engine, made.id)
    assert revoked == again == found_key(engine, key)
    assert revoked is not None
    assert not revoked.live
    assert any_key(engine)
    assert revoke_key(engine, "0" * 12) is None


def test_a_key_dies_at_its_time_by_the_databases_clock(engine: Engine) -> None:
    brief, _ = create_key(engine, "ann", [Scope.READ], expires_in=timedelta(seconds=1))
    long, _ = create_key(engine, "ann", [Scope.READ], expires_in=timedelta(days=1))
    assert found_key(engine, brief).live
    wait_for("end of the key", lambda: not found_key(engine, brief).live, seconds=10)
    assert found_key(engine, long).live


def test_use_is_noted_once_a_minute_at_most(engine: Engine) -> None:
    key, made = create_key(engine, "ann", [Scope.READ])
    assert made.last_used_at is None
    note_use(engine, made.id)
    first = found_key(engine, key).last_used_at
    note_use(engine, made.id)
    assert first is not None
    assert found_key(engine, key).last_used_at == first
    with transaction(engine) as connection:
        connection.execute(text("UPDATE api_keys SET last_used_at = last_used_at - interval '61 s'"))
    note_use(engine, made.id)
    assert (found_key(engine, key).last_used_at or first) > first


def test_the_list_has_every_key_the_newest_first(engine: Engine) -> None:
    made = [create_key(engine, owner, [Scope.READ])[1] for owner in ("ann", "bob", "ann")]
    assert list_keys(engine) == made[::-1]


@pytest.mark.parametrize("scopes", ["{}", "{root}"])
def test_a_key_without_a_known_scope_cannot_be_stored(engine: Engine, scopes: str) -> None:
    insert = text("INSERT INTO api_keys (id, owner, digest, scopes) VALUES ('x', 'ann', '', :scopes)")
    with pytest.raises(IntegrityError), transaction(engine) as connection:
        connection.execute(insert, {"scopes": scopes})


def found_key(engine: Engine, key: str) -> ApiKey:
    found = find_key(engine, public_id(key) or "")
    assert found is not None
    return found
