"""Webhooks as their users see them: a job ends, and a receiver that verifies is told, at least once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine, text
from standardwebhooks import Webhook, WebhookVerificationError

from common.db import make_engine, transaction
from common.settings import Settings
from tests.deployment import Kiln, running_kiln
from tests.jobs.make import claimed
from tests.processes import changed, environment, running, wait_for
from tests.receiver import Receiver, Seen, running_receiver

FAR = {"not_before": "2099-01-01T00:00:00Z"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as started:
        yield started


@pytest.fixture(scope="module")
def told(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiln]:
    """A Kiln whose webhooks may come here. No worker: a job that is canceled has ended, too."""
    settings = changed(module_settings, sweep_seconds=0.3, lease_seconds=3, webhook_allow=["127.0.0.1"])
    with running_kiln(settings, tmp_path_factory.mktemp("webhooks")) as started:
        yield started


@pytest.fixture
def engine(told: Kiln) -> Iterator[Engine]:
    engine = make_engine(told.settings.database_url.get_secret_value(), name="kiln-test")
    yield engine
    engine.dispose()


def secret(kiln: Kiln) -> str:
    answer = httpx2.get(f"{kiln.url}/v1/webhook-secret", timeout=30)
    assert answer.headers["cache-control"] == "no-store"
    found: str = answer.json()["secret"]
    return found


def end(kiln: Kiln, url: str, **fields: Any) -> str:
    """A job with a webhook, over at once; its id."""
    job_id: str = kiln.post(webhook={"url": url}, **FAR, **fields)["id"]
    httpx2.post(f"{kiln.url}/v1/jobs/{job_id}/cancel", timeout=30)
    return job_id


def delivery(kiln: Kiln, job_id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = httpx2.get(f"{kiln.url}/v1/webhook-deliveries?job_id={job_id}", timeout=30).json()[
        "data"
    ]
    return found[0] if found else {}


def wait(kiln: Kiln, job_id: str, **wanted: Any) -> dict[str, Any]:
    """The job's delivery once it is as wanted."""
    last: dict[str, Any] = {}

    def holds() -> bool:
        last.update(delivery(kiln, job_id))
        return wanted.items() <= last.items()

    try:
        wait_for(f"delivery with {wanted}", holds, seconds=60)
    except AssertionError as error:
        raise AssertionError(f"{error}; the delivery: {last}; the logs: {kiln.tails()}") from None
    return last


def let_pauses_pass(engine: Engine) -> None:
    """What waiting for the next attempt, or for the end of a dead sweeper's lease, does."""
    with transaction(engine) as connection:
        connection.execute(text("UPDATE deliveries SET next_attempt_at = clock_timestamp() WHERE status = 'pending'"))


def verified(kiln: Kiln, seen: Seen) -> dict[str, Any]:
    message: dict[str, Any] = Webhook(secret(kiln)).verify(seen.body, seen.headers)
    return message


def test_a_receiver_verifies_what_it_is_told_and_learns_no_prompt(told: Kiln, receiver: Receiver) -> None:
    job_id = end(told, receiver.url("200/first"), prompt="hush-hush", metadata={"album": "cats"})
    shown = wait(told, job_id, status="delivered")
    assert (shown["attempts"], shown["last_status_code"], shown["next_attempt_at"]) == (1, 200, None)
    (seen,) = receiver.at("200/first")
    message = verified(told, seen)
    assert message["type"] == "job.canceled"
    assert message["timestamp"] == shown["created_at"]
    assert message["data"] == {
        "job_id": job_id,
        "batch_id": None,
        "status": "canceled",
        "custom_id": None,
        "metadata": {"album": "cats"},
        "error": None,
        "urls": {"self": f"/v1/jobs/{job_id}"},
    }
    assert seen.headers["webhook-id"] == shown["id"]
    assert "hush-hush" not in seen.body.decode()
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(told)).verify(seen.body + b" ", seen.headers)
    assert told.job(job_id)["webhook"]["url"] == receiver.url("200/first")
    kept = secret(told)
    for log in told.logs.glob("*.log"):
        assert kept not in log.read_text()
        assert "200/first" not in log.read_text()


def test_a_retry_and_a_redelivery_say_the_same_under_the_same_id(
    told: Kiln, receiver: Receiver, engine: Engine
) -> None:
    job_id = end(told, receiver.url("500-once/again"))
    failed = wait(told, job_id, last_status_code=500)
    assert (failed["status"], failed["attempts"]) == ("pending", 1)
    let_pauses_pass(engine)
    shown = wait(told, job_id, status="delivered", attempts=2)
    again = httpx2.post(f"{told.url}/v1/webhook-deliveries/{shown['id']}/redeliver", timeout=30)
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    wait(told, job_id, status="delivered", attempts=3)
    seen = receiver.at("500-once/again")
    assert {(one.headers["webhook-id"], one.body) for one in seen} == {(shown["id"], seen[0].body)}
    for one in seen:
        verified(told, one)


def test_a_rotated_secret_and_the_one_before_both_verify(told: Kiln, receiver: Receiver) -> None:
    before = secret(told)
    rotated = httpx2.post(f"{told.url}/v1/webhook-secret/rotate", timeout=30).json()
    assert rotated["secret"] == secret(told) != before
    wait(told, end(told, receiver.url("200/rotated")), status="delivered")
    (seen,) = receiver.at("200/rotated")
    for each in (before, rotated["secret"]):
        assert Webhook(each).verify(seen.body, seen.headers)["type"] == "job.canceled"


def test_a_batch_says_when_it_is_over(told: Kiln, receiver: Receiver) -> None:
    made = httpx2.post(
        f"{told.url}/v1/batches",
        json={
            "matrix": {"prompts": ["a", "b"]},
            "window": {"start": "00:00", "end": "00:01"},
            "webhook": {"url": receiver.url("200/batch"), "events": ["completed", "canceled"]},
        },
        timeout=30,
    ).json()
    assert made["webhook"]["events"] == ["completed", "canceled"]
    lines = httpx2.post(
        f"{told.url}/v1/batches?webhook_url={receiver.url('200/lines')}",
        content='{"prompt": "a"}',
        headers={"Content-Type": "application/x-ndjson"},
        timeout=30,
    ).json()
    for batch in (made, lines):
        httpx2.post(f"{told.url}/v1/batches/{batch['id']}/cancel", timeout=30)
    wait_for("three messages of one batch", lambda: len(receiver.at("200/batch")) == 3, seconds=60)
    wait_for("one message of the other", lambda: len(receiver.at("200/lines")) == 1, seconds=60)
    messages = {one["type"]: one["data"] for one in (verified(told, seen) for seen in receiver.at("200/batch"))}
    assert messages.keys() == {"job.canceled", "batch.completed"}
    assert messages["job.canceled"]["batch_id"] == made["id"]
    assert messages["batch.completed"]["counts"] == {"canceled": 2}
    assert messages["batch.completed"]["urls"]["self"] == f"/v1/batches/{made['id']}"


def test_receivers_that_hang_drip_flood_or_redirect_hold_up_nobody(told: Kiln, receiver: Receiver) -> None:
    with running_receiver() as bad:
        held = [end(told, bad.url(f"{path}/{place}")) for path in ("hang", "drip") for place in range(3)]
        wait_for("the first of those that hang", lambda: bad.seen, seconds=60)
        redirected, flooded, *good = (
            end(told, receiver.url(path)) for path in ("redirect", "flood", *(f"200/good-{n}" for n in range(5)))
        )
        for job_id in (flooded, *good):
            wait(told, job_id, status="delivered")
        wait(told, redirected, status="pending", last_status_code=307)
        assert receiver.at("200/led") == []
        assert {delivery(told, job_id)["status"] for job_id in held} == {"pending"}


def test_an_address_that_is_not_public_is_refused_at_the_door_or_at_the_delivery(told: Kiln, engine: Engine) -> None:
    for url, wrong in (
        ("https://10.0.0.1/", "must not name an address that is not on the internet"),
        ("http://example.com/", "must begin with https://"),
        ("https://ann:pw@example.com/", "must have no user or password"),
    ):
        answer = httpx2.post(f"{told.url}/v1/jobs", json={"prompt": "a", "webhook": {"url": url}}, timeout=30)
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"pointer": "/webhook/url", "detail": wrong}]
    job_id = end(told, "https://0:1/hook")
    assert wait(told, job_id, last_error="address_refused")["status"] == "pending"


def test_a_sweeper_that_dies_between_sending_and_noting_it_lets_the_next_send_the_same(
    told: Kiln, receiver: Receiver, engine: Engine, tmp_path: Path
) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE deliveries SET status = 'failed', next_attempt_at = NULL"))
    dying = environment(told.settings) | {"KILN_FAULT": "sent:kill"}
    log = tmp_path / "dying.log"
    with running(["worker.sweeper"], dying, log) as doomed:
        wait_for("second sweeper", lambda: "sweeper ready" in log.read_text(), seconds=60)
        made = list[str]()
        while doomed.poll() is None:  # whichever of the two takes one: in the end this one does, and dies of it
            assert len(made) < 50
            made.append(end(told, receiver.url(f"200/twice-{len(made)}")))
            wait_for(
                "delivery, or death of the sweeper",
                lambda: doomed.poll() is not None or not undelivered(told, made[-1]),
                seconds=60,
            )
    assert [one for one in made if undelivered(told, one)] == made[-1:]
    lost = made[-1]
    let_pauses_pass(engine)
    shown = wait(told, lost, status="delivered", attempts=2)
    twice = receiver.at(f"200/twice-{len(made) - 1}")
    assert [one.headers["webhook-id"] for one in twice] == [shown["id"]] * 2
    assert json.loads(twice[0].body) == json.loads(twice[1].body)


def undelivered(kiln: Kiln, job_id: str) -> bool:
    return bool(delivery(kiln, job_id)["status"] != "delivered")


def test_a_job_whose_worker_is_lost_for_good_is_told_as_failed(told: Kiln, receiver: Receiver, engine: Engine) -> None:
    job_id = told.post(webhook={"url": receiver.url("200/lost"), "events": ["failed"]}, priority=9)["id"]
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET failures = 3 WHERE status = 'queued'"))
    claimed(engine, lease_seconds=0.1)
    wait(told, job_id, status="delivered")
    (seen,) = receiver.at("200/lost")
    assert verified(told, seen)["data"]["error"] == "worker_lost"
