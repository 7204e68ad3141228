"""What passes between worker and API while a job runs: an owner in, the name of their channel in Redis out. Pure.

A message is a JSON object {"event", "data"}. Nothing depends on it: who does not hear it reads the row.
"""

from typing import Literal
from urllib.parse import urlsplit

# The first three are shown; settled says only that there is news in the event log
Told = Literal["stage", "progress", "preview", "settled"]


def channel(broker_url: str, owner: str) -> str:
    """One for each owner: so nobody is sent what is another's, and a worker learns whether its owner listens.

    Channels know no databases, so the name tells the broker's.
    """
    database = urlsplit(broker_url).path.strip("/") or "0"
    return f"kiln.{database}.events.{owner}"
