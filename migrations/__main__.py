"""``python -m migrations``: brings the database of KILN_DATABASE_URL to the newest schema, or does another step.

With KILN_API_PASSWORD and KILN_WORKER_PASSWORD it then lets the roles kiln_api and kiln_worker log in with them.
"""

import argparse
from pathlib import Path

from alembic import command
from alembic.config import Config

from common.settings import MigrationSettings, read_settings
from migrations.roles import let_in


def config(database_url: str) -> Config:
    """Alembic's configuration for one database, without an alembic.ini."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["database_url"] = database_url
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m migrations", description=__doc__)
    parser.add_argument(
        "action",
        nargs="?",
        default="upgrade",
        choices=["upgrade", "downgrade", "check", "revision"],
        help="upgrade to the newest schema (the default); downgrade by one step, or to --to; "
        "check that the tables in code and in the database agree; start a new revision named --message",
    )
    parser.add_argument("--to", help="revision to go to")
    parser.add_argument("--message", help="what the new revision does")
    arguments = parser.parse_args()
    settings = read_settings(MigrationSettings)
    url = settings.database_url.get_secret_value()
    alembic = config(url)
    match arguments.action:
        case "upgrade":
            command.upgrade(alembic, arguments.to or "head")
            if passwords := settings.passwords:
                let_in(url, passwords)
        case "downgrade":
            command.downgrade(alembic, arguments.to or "-1")
        case "check":
            command.check(alembic)
        case "revision":
            command.revision(alembic, message=arguments.message, autogenerate=True)


if __name__ == "__main__":
    main()
