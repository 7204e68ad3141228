"""Webhooks over HTTP: deliveries shown and made due again; the secret that verifies them. The sweeper sends them."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import schemas
from api.kiln import KilnDep, Reader, Submitter, SubmitterAndReader, quick, reads_many
from api.receipt import ReceiptRoute
from api.views import show_delivery
from common.errors import NotFound
from common.ids import parse_id, show_id
from common.jobs import deliveries, secrets
from common.jobs.deliveries import DeliveryStatus

router = APIRouter(prefix="/v1", tags=["webhooks"], route_class=ReceiptRoute)


@router.get("/webhook-deliveries", response_model=schemas.Page[schemas.Delivery])
@reads_many
def index(
    kiln: KilnDep,
    owner: Reader,
    job_id: str | None = None,
    status: DeliveryStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="last_id of the page before")] = None,
) -> schemas.Page[schemas.Delivery]:
    """What was sent, or is to be sent, to the caller's webhooks, newest first."""
    found, more = deliveries.list_deliveries(
        kiln.engine,
        owner,
        job_id=parse_id("job", job_id) if job_id else None,
        status=status,
        after=parse_id("msg", after) if after else None,
        limit=limit,
    )
    shown = [show_delivery(each) for each in found]
    return schemas.Page(data=shown, has_more=more, last_id=shown[-1].id if shown else None)


@router.post("/webhook-deliveries/{delivery_id}/redeliver", status_code=202, response_model=schemas.Delivery)
@quick
def redeliver(delivery_id: str, kiln: KilnDep, owner: Submitter) -> schemas.Delivery:
    """Send it again now, with the same webhook-id, whatever became of it; and for a day, should that fail."""
    key = parse_id("msg", delivery_id)
    again = deliveries.redeliver(kiln.engine, owner, key)
    if again is None:
        raise NotFound(f"there is no delivery {show_id('msg', key)}")
    return show_delivery(again)


@router.get("/webhook-secret", response_model=schemas.WebhookSecret)
@quick
def secret(response: Response, kiln: KilnDep, owner: SubmitterAndReader) -> schemas.WebhookSecret:
    """What verifies the caller's webhooks, in all jobs and batches."""
    return _show(response, secrets.read_secret(kiln.engine, owner))


@router.post("/webhook-secret/rotate", response_model=schemas.WebhookSecret)
@quick
def rotate(response: Response, kiln: KilnDep, owner: SubmitterAndReader) -> schemas.WebhookSecret:
    """Make a new one. The one before signs beside it for a day."""
    return _show(response, secrets.rotate_secret(kiln.engine, owner))


def _show(response: Response, found: secrets.WebhookSecret) -> schemas.WebhookSecret:
    response.headers["Cache-Control"] = "no-store"
    return schemas.WebhookSecret(secret=found.secret, made_at=found.made_at, previous_until=found.previous_until)
