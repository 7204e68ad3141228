"""Webhooks on their way: what is due is claimed, signed, posted and settled, many at once. Touches the network.

A thread of the sweeper's, with an event loop of its own, for receivers may be slow. Two sweepers share the work. At
least once: who dies between sending and noting it sends the same again, with the same webhook-id, once its lease ends.
"""

import asyncio
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version

import structlog
from sqlalchemy import Engine
from standardwebhooks import Webhook

from common.errors import Unavailable
from common.fault import fault
from common.ids import show_id
from common.jobs.deliveries import Attempt, Delivery, DeliveryStatus, claim_delivery, settle_delivery
from common.reach import Reach
from worker.post import TOTAL_SECONDS, post

log = structlog.get_logger()

SEATS = 32  # deliveries at once
SEATS_OF_AN_OWNER = 8
SEATS_OF_A_HOST = 2  # a receiver that hangs holds up its own, and few seats of all
LEASE_SECONDS = 2 * TOTAL_SECONDS
LOOK_SECONDS = 1.0  # between two looks for what is due
GRACE_SECONDS = 3.0  # for what is under way when the sweeper stops


def deliver(engine: Engine, reach: Reach, stop: threading.Event) -> None:
    """Deliver what is due until ``stop``."""
    asyncio.run(_deliver(engine, reach, stop))


async def _deliver(engine: Engine, reach: Reach, stop: threading.Event) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))  # for the database: as many as connections
    under_way: dict[asyncio.Task[None], Delivery] = {}
    while not stop.is_set():
        try:
            while len(under_way) < SEATS and (attempt := await _claim(engine, list(under_way.values()))):
                under_way[asyncio.create_task(_make(engine, reach, attempt))] = attempt.delivery
        except Unavailable:
            log.warning("webhooks not delivered: the database does not answer")
        except Exception:  # a thread that ended in silence would never do its work again
            log.exception("webhooks not delivered")
        await _wait(under_way, LOOK_SECONDS)
    if under_way:
        await asyncio.wait(under_way, timeout=GRACE_SECONDS)


async def _wait(under_way: dict[asyncio.Task[None], Delivery], seconds: float) -> None:
    """Until one of them is done, or the time is up."""
    if not under_way:
        await asyncio.sleep(seconds)
        return
    done, _ = await asyncio.wait(under_way, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        del under_way[task]


async def _claim(engine: Engine, under_way: list[Delivery]) -> Attempt | None:
    """The next that is due, of an owner and to a host that have seats left."""
    owners, hosts = Counter(one.owner for one in under_way), Counter(one.host for one in under_way)
    return await asyncio.to_thread(
        claim_delivery,
        engine,
        lease_seconds=LEASE_SECONDS,
        busy_owners=[owner for owner, count in owners.items() if count >= SEATS_OF_AN_OWNER],
        busy_hosts=[host for host, count in hosts.items() if count >= SEATS_OF_A_HOST],
    )


async def _make(engine: Engine, reach: Reach, attempt: Attempt) -> None:
    """Send one and note how it went. The URL is a secret of its owner's, as it may be of the receiver's: not logged."""
    one, told = attempt.delivery, log.bind(delivery=show_id("msg", attempt.delivery.id))
    try:
        body = payload(one)
        answer = await post(one.url, body.encode(), _headers(attempt, body), reach)
        fault("sent")
        status = await asyncio.to_thread(
            settle_delivery, engine, attempt, status_code=answer.status_code, error=answer.error
        )
        if status in (DeliveryStatus.FAILED, DeliveryStatus.DISABLED):
            told.warning("webhook given up", status=status, status_code=answer.status_code, reason=answer.error)
    except Unavailable:
        told.warning("webhook sent, and not noted: the database does not answer; it is sent again")
    except Exception:
        told.exception("webhook not sent")


def payload(one: Delivery) -> str:
    """What the receiver gets: which job or batch, and how it stands. The same at every attempt."""
    kind, key = ("job", one.job_id) if one.job_id else ("batch", one.batch_id)
    own_path = f"/v1/{'jobs' if kind == 'job' else 'batches'}/{show_id(kind, key)}" if key else ""
    data = {
        "job_id": show_id("job", one.job_id) if one.job_id else None,
        "batch_id": show_id("batch", one.batch_id) if one.batch_id else None,
        **one.data,
        "urls": {"self": own_path},
    }
    at = one.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"type": one.type, "timestamp": at, "data": data}, separators=(",", ":"))


def _headers(attempt: Attempt, body: str) -> dict[str, str]:
    """Those of Standard Webhooks, signed by each secret that is in force."""
    message, now = show_id("msg", attempt.delivery.id), datetime.now(UTC)
    return {
        "Content-Type": "application/json",
        "User-Agent": f"Kiln/{version('kiln')}",
        "webhook-id": message,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message, now, body) for secret in attempt.secrets),
    }
