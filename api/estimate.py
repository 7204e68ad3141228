"""The plan of a batch in; what it would cost out, in evaluations, seconds and bytes. Reads the database."""

from api import orders
from api.kiln import Kiln
from api.plan import Plan
from common.jobs.tally import bytes_per_pixel, seconds_for


def estimate(kiln: Kiln, owner: str, plan: Plan) -> orders.Estimate:
    """For the live workers, and as large as the owner's newest pictures."""
    kinds = list(plan.kinds())
    evaluations = sum(spec.evaluations * count for spec, count in kinds)
    pixels = sum(spec.width * spec.height * (spec.keep_best or spec.num_images) * count for spec, count in kinds)
    size = bytes_per_pixel(kiln.engine, owner)
    return orders.Estimate(
        jobs=plan.jobs,
        images=sum(spec.num_images * count for spec, count in kinds),
        evaluations=evaluations,
        seconds=seconds_for(
            kiln.engine, evaluations, {spec.model for spec, _ in kinds}, alive_seconds=kiln.settings.lease_seconds
        ),
        bytes=None if size is None else round(pixels * size),
    )
