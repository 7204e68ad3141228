"""How things are called: a prompt in, a file name that recalls it out; seconds in, as people say them, out. Pure."""

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


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 ms, 1.4 s, 12 s, 3:05, 2:00:09."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
