"""An object store over the session's real S3 server."""

from common.local.services import Services
from common.objects import Objects


def make_objects(services: Services, *, bucket: str, endpoint_url: str = "", public_url: str = "") -> Objects:
    endpoint = endpoint_url or services.s3_endpoint_url
    return Objects(
        endpoint_url=endpoint,
        public_url=public_url or endpoint,
        access_key=services.s3_access_key,
        secret_key=services.s3_secret_key,
        bucket=bucket,
        region="us-east-1",
    )
