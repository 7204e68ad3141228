"""Names of files from what they show: a prompt in, a part of a name that recalls it out. Pure."""

import re
import unicodedata

_LENGTH = 48


def slug(prompt: str) -> str:
    """A file name's part that recalls the prompt, in ASCII; empty where the prompt has no such letters."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:_LENGTH].strip("-")


def picture_name(prompt: str, style: str, seed: int, job_id: str, suffix: str) -> str:
    """Prompt, style and seed; and the end of the job's id, for its settings may be all that sets two pictures apart."""
    return "-".join(filter(None, [slug(prompt), style, str(seed), job_id[-8:]])) + suffix
