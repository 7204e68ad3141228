"""Who may call: which keys are good, what each is for, and until when."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from api.keyring import CACHE_SECONDS
from common.jobs.keys import Scope, create_key, list_keys, revoke_key
from common.settings import Settings
from tests.api.conftest import Api, calls
from tests.processes import changed, running_api, wait_for


@pytest.fixture(scope="module")
def guarded(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, Path]]:
    """A server whose database has a key, seen by an admin; and its log."""
    log = tmp_path_factory.mktemp("api") / "api.log"
    with running_api(module_settings, log=log) as base_url:
        api = Api(base_url, module_settings)
        api.objects.ensure_bucket()
        api.use(create_key(api.engine, "root", [Scope.ADMIN])[0])
        yield api, log
        api.close()


@pytest.fixture
def admin(guarded: tuple[Api, Path]) -> Api:
    return guarded[0]


def test_every_key_that_is_not_good_is_the_same_401(admin: Api, guarded: tuple[Api, Path]) -> None:
    good, _ = create_key(admin.engine, "ann", list(Scope))
    revoked, kept = create_key(admin.engine, "ann", list(Scope))
    revoke_key(admin.engine, kept.id)
    expired, _ = create_key(admin.engine, "ann", list(Scope), expires_in=timedelta(0))
    unknown = f"kiln_{'0' * 12}_{'0' * 64}"
    forged = good[:-1] + ("0" if good[-1] != "0" else "1")
    assert status(admin, f"Bearer {good}") == status(admin, f"bearer {good}") == 200
    headers = [f"Bearer {key}" for key in (revoked, expired, unknown, forged, "é", "x" * 10_000)]
    bodies = set()
    for header in [None, "Bearer", good, f"Basic {good}", *headers]:
        with admin.nothing_changes():
            answer = httpx2.post(f"{admin.base_url}/v1/jobs", json={"prompt": "a"}, headers=sent(header))
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        bodies.add(answer.text.replace(answer.headers["x-request-id"], ""))
    assert len(bodies) == 1
    told = guarded[1].read_text() + bodies.pop()
    for key in (good, revoked, expired, forged):
        assert key.rpartition("_")[2] not in told


SERVED = (200, 202, 400, 415)  # OpenAI's calls read another body than these tests send
ANSWERS_WITH_SECRETS = ("/v1/webhook-secret", "/v1/webhook-secret/rotate", "/v1/images/generations")
BATCH = {"matrix": {"prompts": ["a"]}}


def test_a_key_does_what_its_scopes_say_on_every_route_and_403_names_what_it_lacks(admin: Api) -> None:
    keys = {scope: create_key(admin.engine, "ann", [scope])[0] for scope in (Scope.SUBMIT, Scope.READ)}
    seen: set[Scope] = set()
    for method, path in calls(admin):
        needed = {Scope.ADMIN if path == "/metrics" else Scope.READ if method == "GET" else Scope.SUBMIT}
        if path in ANSWERS_WITH_SECRETS:
            needed = {Scope.SUBMIT, Scope.READ}
        asked = BATCH if path == "/v1/batches" else {"prompt": "a", "not_before": "2099-01-01T00:00:00Z"}
        body = {"json": asked} if method == "POST" else {}
        anonymous = httpx2.request(method, admin.base_url + path, **body)
        if path in ("/healthz", "/readyz"):
            assert anonymous.status_code == 200
            continue
        assert anonymous.status_code == 401, (method, path)
        for has, key in keys.items():
            answer = httpx2.request(method, admin.base_url + path, headers=sent(f"Bearer {key}"), **body)
            if lacks := needed - {has}:
                assert answer.status_code == 403, (method, path)
                assert answer.json()["detail"] in {f"this key lacks the scope {scope}" for scope in lacks}
            else:
                assert answer.status_code in (*SERVED, 404), (method, path, answer.text)
        assert admin.request(method, path, **body).status_code in (*SERVED, 404)
        seen |= needed
    assert seen == set(Scope)


def test_a_key_that_is_revoked_while_it_is_used_is_refused_within_the_seconds_that_are_promised(admin: Api) -> None:
    key, kept = create_key(admin.engine, "ann", [Scope.READ])
    assert status(admin, f"Bearer {key}") == 200
    revoke_key(admin.engine, kept.id)
    wait_for("refusal", lambda: status(admin, f"Bearer {key}") == 401, seconds=CACHE_SECONDS + 3)


def test_use_of_a_key_is_seen_and_refused_use_is_not(admin: Api) -> None:
    key, kept = create_key(admin.engine, "ann", [Scope.READ])
    assert status(admin, f"Bearer {key[:-64]}{'0' * 64}") == 401
    assert last_used(admin, kept.id) is None
    assert status(admin, f"Bearer {key}") == 200
    assert last_used(admin, kept.id) is not None


def test_prompts_and_keys_appear_in_no_log(guarded: tuple[Api, Path]) -> None:
    api, log = guarded
    api.post("/v1/jobs", json={"prompt": "hush-hush"})
    api.post("/v1/jobs", json={"prompt": ""})
    text = log.read_text()
    assert "hush-hush" not in text
    assert "kiln_" + list_keys(api.engine)[-1].id not in text


def test_until_the_first_key_this_machine_is_served_and_from_then_on_keys_alone_even_when_it_is_revoked(
    database_url: str, module_settings: Settings, log: Path
) -> None:
    settings = changed(module_settings, database_url=SecretStr(database_url))
    with running_api(settings, log) as base_url:
        api = Api(base_url, settings)
        assert api.get("/v1/jobs").status_code == 200
        for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "203.0.113.7"}):
            for path in ("/v1/jobs", "/metrics"):
                answer = api.get(path, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert api.get("/healthz", headers={"Host": "evil.example"}).status_code == 200
        _, kept = create_key(api.engine, "ann", [Scope.READ])
        revoke_key(api.engine, kept.id)
        wait_for("end of free calls", lambda: api.get("/v1/jobs").status_code == 401, seconds=CACHE_SECONDS + 3)
        api.close()


def status(api: Api, header: str) -> int:
    return httpx2.get(f"{api.base_url}/v1/jobs", headers=sent(header)).status_code


def sent(header: str | None) -> dict[str, bytes]:
    return {} if header is None else {"Authorization": header.encode()}


def last_used(api: Api, key_id: str) -> object:
    return next(key.last_used_at for key in list_keys(api.engine) if key.id == key_id)
