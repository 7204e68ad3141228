"""One Celery task per job, as a tutorial would have it: load the pipeline once, paint, upload, write a row.

``celery -A bench.naive worker``, with Kiln's own settings in the environment, and NAIVE_BROKER and NAIVE_MODEL.
"""

import io
import os
from collections.abc import Callable
from functools import cache
from typing import Any
from uuid import uuid4

import boto3
import psycopg
from celery import Celery
from PIL import Image

from bench.pipeline import open_studio
from common.jobs.spec import JobSpec
from common.settings import Settings, read_settings

app = Celery("naive", broker=os.environ["NAIVE_BROKER"], backend=os.environ["NAIVE_BROKER"])
settings = read_settings(Settings)
s3 = boto3.client(
    "s3",
    endpoint_url=settings.s3_endpoint_url,
    aws_access_key_id=settings.s3_access_key.get_secret_value(),
    aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
    region_name=settings.s3_region,
)


@cache
def pipeline() -> Callable[[JobSpec], Image.Image]:
    return open_studio(os.environ["NAIVE_MODEL"], settings.home)


@app.task(name="paint")  # type: ignore[untyped-decorator]
def paint(spec: dict[str, Any]) -> str:
    """Paint one job; returns the key of its picture."""
    buffer = io.BytesIO()
    pipeline()(JobSpec.from_json(spec)).save(buffer, "PNG")
    key = f"naive/{uuid4().hex}.png"
    s3.put_object(Bucket=settings.s3_bucket, Key=key, Body=buffer.getvalue(), ContentType="image/png")
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        connection.execute("INSERT INTO naive (key, prompt) VALUES (%s, %s)", (key, spec["prompt"]))
    return key
