"""The baseline's worker: bench/naive.py's task, as careful as Celery can be told to be, over a picture of noise.

A task is acknowledged when it is done (late ack), and given back where its worker is lost. What a killed process had
is given out again after CHAOS_VISIBLE seconds; Celery's default is an hour.
"""

import importlib
import os
import time
from pathlib import Path
from typing import Any

from PIL import Image

import bench.pipeline

PAINT_SECONDS = 0.05


def serve(variables: dict[str, str], log: Path) -> None:
    """Work in this process, which becomes the leader of a group with its pool, until told to stop."""
    os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    bench.pipeline.open_studio = lambda *_: picture
    app = importlib.import_module("bench.naive").app  # it reads the environment as it is imported
    tell(app, float(variables["CHAOS_VISIBLE"]))
    app.worker_main(["worker", "--pool=prefork", "--concurrency=1", "--loglevel=WARNING"])


def tell(app: Any, visible: float) -> None:
    """What is to be known of late ack, on both sides."""
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": visible, "socket_timeout": 5},
    )


def picture(_spec: object) -> Image.Image:
    time.sleep(PAINT_SECONDS)
    return Image.frombytes("RGB", (16, 16), os.urandom(3 * 16 * 16))
