"""`kiln keys create`, `list` and `revoke`: an owner or an id in, keys of the database out. Needs no API, and no key.

Whoever can read the database decides who may call: so the first key needs none before it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from client.address import home, read_run
from client.errors import InvalidUse, Unreachable
from client.generate import AsJson
from client.output import answering, printable

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from common.jobs.keys import ApiKey

keys_app = typer.Typer(
    help="API keys, in the database that KILN_DATABASE_URL names, else that of `kiln up`. "
    "From the first key on, every call needs one."
)

LONGEST_OWNER = 64


class ScopeName(StrEnum):
    """The scopes as the command line names them; common.jobs.keys.Scope says what they allow."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


@keys_app.command("create", epilog="Example: kiln keys create ann --scope read --days 90")
def create(
    owner: Annotated[str, typer.Argument(help="Whose key: owners see only their own jobs. Those made without: local.")],
    scope: Annotated[
        list[ScopeName] | None,
        typer.Option(
            help="submit: queue, cancel and delete, and be told ids alone; read: see jobs and pictures; "
            "admin: both, and /metrics. Repeatable."
        ),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, max=36500, help="It ends after so many days.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: now or never, for only its hash is kept. It may submit and read unless told otherwise.

    Clients send it when it is in KILN_API_KEY.
    """
    from common.jobs.keys import Scope, create_key

    with answering(as_json) as output, _database() as engine:
        if not (owner.strip() == owner and owner.isprintable() and 0 < len(owner) <= LONGEST_OWNER):
            raise InvalidUse(f"An owner's name is 1 to {LONGEST_OWNER} printable characters, without spaces around it.")
        scopes = {Scope(name) for name in scope or (ScopeName.SUBMIT, ScopeName.READ)}
        text, key = create_key(engine, owner, scopes, expires_in=timedelta(days=days) if days is not None else None)
        output.answer(_row(key) | {"key": text}, text)
        output.note(f"Key {key.id} of {owner}, {_state(key)}. It is shown this once.")


@keys_app.command("list", epilog="Example: kiln keys list --json")
def list_all(as_json: AsJson = False) -> None:
    """List every key that was made: id, owner, scopes, and when it was last used, within a minute."""
    from common.jobs.keys import list_keys

    with answering(as_json) as output, _database() as engine:
        found = list_keys(engine)
        output.show([_row(key) for key in found], _table(found) if found else "No keys.")


@keys_app.command("revoke", epilog="Example: kiln keys revoke 0192f3a4b5c6")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="A key's id, as `kiln keys list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """End a key for good. APIs that served it in the last 5 seconds may serve it for 5 more."""
    from common.jobs.keys import revoke_key

    with answering(as_json) as output, _database() as engine:
        key = revoke_key(engine, key_id)
        if key is None:
            raise InvalidUse("There is no key of this id; `kiln keys list` shows them.")
        output.answer(_row(key), f"{key.id} of {key.owner} is revoked")


@contextmanager
def _database() -> "Iterator[Engine]":
    """The database during the block; Unreachable where it is down."""
    from common.db import make_engine
    from common.errors import Unavailable
    from common.settings import DatabaseSettings, read_settings

    run = {} if os.environ.get("KILN_DATABASE_URL") else read_run(home())
    given = {"database_url": run["database"]} if "database" in run else {}
    url = read_settings(DatabaseSettings, **given).database_url.get_secret_value()
    engine = make_engine(url, name="kiln-keys", pool_size=1)
    try:
        yield engine
    except Unavailable as error:
        raise Unreachable("The database does not answer; KILN_DATABASE_URL says where it is.") from error
    finally:
        engine.dispose()


def _row(key: "ApiKey") -> dict[str, Any]:
    return {
        "id": key.id,
        "owner": key.owner,
        "scopes": sorted(key.scopes),
        "live": key.live,
        "created_at": _stamp(key.created_at),
        "expires_at": _stamp(key.expires_at),
        "revoked_at": _stamp(key.revoked_at),
        "last_used_at": _stamp(key.last_used_at),
    }


def _table(found: "list[ApiKey]") -> Table:
    table = Table("ID", "OWNER", "SCOPES", "STATE", "LAST USED", box=None, pad_edge=False)
    for key in found:
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
        table.add_row(key.id, printable(key.owner), " ".join(sorted(key.scopes)), _state(key), used)
    return table


def _state(key: "ApiKey") -> str:
    """Times as the database has them: UTC."""
    if key.revoked_at:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    if key.expires_at:
        return f"{'until' if key.live else 'expired'} {key.expires_at:%Y-%m-%d %H:%M}"
    return "live"


def _stamp(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
