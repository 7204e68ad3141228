"""The broker: a model's name in, one message out. The only producer; and the Celery app that both sides share.

A message is a doorbell: permission to run one job of its model, which the worker then claims from the database.
A lost one costs seconds, a doubled one an empty claim.
"""

import threading
import time
from concurrent.futures import Future
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import redis

log = structlog.get_logger()

TASK = "kiln.generate"
PATIENCE_SECONDS = 0.5  # with a broker that takes a message
PAUSE_SECONDS = 2.0  # between two tries while it is away

# A doorbell that nobody answered for so long says nothing any more. Celery judges by the worker's clock: hence hours
_EXPIRES_SECONDS = 4 * 3600


def make_celery(broker_url: str) -> Celery:
    """The Celery app: JSON only, no results, nothing prefetched, and no wait on a broker that is away."""
    app = Celery("kiln", broker=broker_url)
    app.conf.update(
        broker_transport=Transport,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,  # the lease recovers lost jobs: one recovery path, ours
        task_reject_on_worker_lost=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a broker that refuses writes, as its disk is full, is one that is away
        broker_transport_options={
            # half-open connections wedge a worker for good without these
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        task_publish_retry=False,
    )
    return app


class Channel(redis.Channel):  # type: ignore[misc]
    """Takes messages one by one, and drops what is no JSON."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except ValueError:
            log.warning("a message was dropped that is no JSON")
            return True


class Transport(redis.Transport):  # type: ignore[misc]
    """kombu's, but for messages that lack what every message has: over those it would end the worker."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            super()._deliver(message, queue)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            log.warning("a message was dropped that makes no sense", reason=f"{type(error).__name__}: {error}")


class Doorbell:
    """Sends messages within half a second or gives up: what was committed and never sent, the sweeper sends.

    Where the broker is away, only now and then a message finds that out; the others are not sent at once.
    """

    def __init__(self, broker_url: str) -> None:
        self._resumes_at = float("-inf")
        self._app = make_celery(broker_url)
        self._app.conf.broker_transport_options |= {
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
            "max_retries": 0,  # send_task's retry=False does not reach the connecting, which would take 6 seconds
        }

    def ring(self, model: str) -> bool:
        """Tell the workers of ``model`` that there is a job; returns whether the broker took the message.

        One that it took too late is no harm: the sweeper sends another, and a doubled message costs nothing.
        """
        if time.monotonic() < self._resumes_at:
            return False
        sending: Future[None] = Future()
        # A thread of its own: nothing ends a look-up of the broker's name that is not answered
        threading.Thread(target=self._send, args=(model, sending), daemon=True).start()
        try:
            sending.result(timeout=PATIENCE_SECONDS)
        except (OperationalError, OSError) as error:  # TimeoutError is an OSError
            self._resumes_at = time.monotonic() + PAUSE_SECONDS
            log.warning("message not sent; the sweeper will", model=model, reason=type(error).__name__)
            return False
        return True

    def _send(self, model: str, sending: Future[None]) -> None:
        try:
            self._app.send_task(TASK, queue=queue_name(model), expires=_EXPIRES_SECONDS, retry=False)
        except BaseException as error:
            sending.set_exception(error)
        else:
            sending.set_result(None)

    def waiting(self, model: str) -> int:
        """Messages that wait in the queue of ``model``. Raises OperationalError or OSError where the broker is away."""
        with self._app.connection_for_write() as connection:
            return int(connection.default_channel.client.llen(queue_name(model)))

    def check(self) -> None:
        """Raise unless the broker answers."""
        self.waiting("")


def queue_name(model: str) -> str:
    """One queue per model, so that a message wakes a worker that can do the job."""
    return f"kiln.{model}"
