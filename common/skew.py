"""Wrong clocks: an S3 client in, one that signs by its server's clock out.

S3 refuses what was signed a quarter of an hour ago or hence, and botocore signs by the machine's clock alone. The
server's own answer says what time it is there.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import structlog
from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth
from botocore.awsrequest import AWSRequest

log = structlog.get_logger()

SIGNATURE = "s3v4-server-clock"  # as botocore's own "s3v4", to be named as a client's signature_version

_TOLERATED = timedelta(minutes=5)
_FORBIDDEN = 403
_OFFSET = "server_clock_offset"


class _Signature(S3SigV4Auth):  # type: ignore[misc] # botocore has no types
    def _modify_request_before_signing(self, request: Any) -> None:
        now = datetime.now(UTC) + request.context.get(_OFFSET, timedelta())
        request.context["timestamp"] = now.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


AUTH_TYPE_MAPS[SIGNATURE] = _Signature


@dataclass(slots=True)
class ServerClock:
    """How far the server's clock is ahead of ours, as the last refusal said."""

    offset: timedelta = timedelta()

    def follow(self, client: Any) -> None:
        """Have ``client``, made with SIGNATURE, sign by this clock, and set it where a request is refused for it."""
        client.meta.events.register("before-sign.s3", self._tell)
        client.meta.events.register("needs-retry.s3", self._set)

    def sign(self, method: str, url: str, credentials: Any, region: str) -> dict[str, str]:
        """The headers of one request that another HTTP client makes."""
        request = AWSRequest(method, url)
        self._tell(request)
        _Signature(credentials, "s3", region).add_auth(request)
        return dict(request.headers.items())

    def _tell(self, request: Any, **_: Any) -> None:
        request.context[_OFFSET] = self.offset

    def _set(self, response: tuple[Any, dict[str, Any]] | None, **_: Any) -> int | None:
        """Seconds to wait before the request is tried again; None: it was not refused for the time."""
        told = response[1]["ResponseMetadata"] if response else {}
        return 0 if self.learn(told.get("HTTPStatusCode"), told.get("HTTPHeaders", {}).get("date")) else None

    def learn(self, status: int | None, date: str | None) -> bool:
        """Whether an answer with this status and Date refused a request for its time; sets the clock then."""
        if status != _FORBIDDEN or date is None:
            return False
        offset = parsedate_to_datetime(date) - datetime.now(UTC)
        if abs(offset - self.offset) < _TOLERATED:
            return False
        log.warning("this machine's clock is wrong, the object store says", seconds=round(offset.total_seconds()))
        self.offset = offset
        return True
