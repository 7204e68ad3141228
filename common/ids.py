"""Public ids: a UUIDv7 with a prefix (``job_…``, ``img_…``), so that ids sort by time and serve as cursors. Pure."""

import secrets
import time
from uuid import UUID

from common.errors import NotFound


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76  # version 7
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant of RFC 9562
    return UUID(int=value)


def show_id(prefix: str, value: UUID) -> str:
    return f"{prefix}_{value.hex}"


def parse_id(prefix: str, text: str) -> UUID:
    """The UUID in ``text``; NotFound where it cannot be one, for then nothing of that name exists."""
    head, _, digits = text.partition("_")
    if head == prefix and len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits):
        return UUID(hex=digits)
    raise NotFound(f"{text[:80]!r} is not an id of this kind: expected {prefix}_ and 32 hexadecimal digits")
