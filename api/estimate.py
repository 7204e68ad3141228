"""The jobs of a batch in; what they would cost out, in evaluations, seconds and bytes. Reads the database."""

from collections.abc import Sequence

from api import orders
from api.kiln import Kiln
from common.jobs.submit import Submission
from common.jobs.tally import bytes_per_pixel, seconds_for


def estimate(kiln: Kiln, owner: str, submissions: Sequence[Submission]) -> orders.Estimate:
    """For the live workers, and as large as the owner's newest pictures."""
    specs = [one.spec for one in submissions]
    evaluations = sum(spec.evaluations for spec in specs)
    pixels = sum(spec.width * spec.height * (spec.keep_best or spec.num_images) for spec in specs)
    size = bytes_per_pixel(kiln.engine, owner)
    return orders.Estimate(
        jobs=len(specs),
        images=sum(spec.num_images for spec in specs),
        evaluations=evaluations,
        seconds=seconds_for(
            kiln.engine, evaluations, {spec.model for spec in specs}, alive_seconds=kiln.settings.lease_seconds
        ),
        bytes=None if size is None else round(pixels * size),
    )
