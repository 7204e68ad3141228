"""A database and passwords in; the roles of the API and of workers can log in with them. Changes the server's roles."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

_METHOD = b"scram-sha-256"


def let_in(database_url: str, passwords: Mapping[str, str]) -> None:
    """Let each role log in with its password from now on.

    What is sent is the SCRAM verifier, made here: no log of the server ever has a password.
    """
    with psycopg.connect(database_url, connect_timeout=5, autocommit=True) as connection:
        for role, password in passwords.items():
            verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), _METHOD)
            statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
            connection.execute(statement.format(sql.Identifier(role), sql.Literal(verifier.decode())))
