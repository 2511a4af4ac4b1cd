"""Which code may use the tables. Servers of two versions work side by side while an upgrade is rolled out.

Migrations only add to the tables: older code ignores what they add, and works as before. A migration that does more
names the oldest code that can still use the tables, in a variable `oldest_code` of its file. The latest of those is
kept in the database, beside the version that it applies to. Rows that older code cannot read raise it too
(`require_code`).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, inspect, text

from lnpay.domain.errors import SchemaTooNew

FIRST: Final = "0023"
"""Code of earlier versions does not check this: it uses only the tables of its own version."""


def find_oldest_code(connection: Connection) -> str | None:
    """The oldest code that may use the tables; None if the database does not state it for its present version."""
    if "oldest_code" not in {column["name"] for column in inspect(connection).get_columns("alembic_version")}:
        return None
    which = "SELECT oldest_code FROM alembic_version WHERE oldest_code_of = version_num"
    return connection.execute(text(which)).scalar()


def store_oldest_code(connection: Connection, code: str) -> None:
    """Record that code of the version `code` or newer may use the present tables."""
    statement = text("UPDATE alembic_version SET oldest_code = :code, oldest_code_of = version_num")
    connection.execute(statement, {"code": code})


def can_use(code: str, version: str | None, oldest: str | None) -> bool:
    """Whether code of the version `code` may use tables of `version`, which need `oldest` or newer."""
    if version == code:
        return True
    return version is not None and oldest is not None and oldest <= code < version


def check_usable(connection: Connection, code: str, version: str | None) -> None:
    """Raise SchemaTooNew unless code of the version `code` may use the tables, which are at `version`."""
    oldest = None if version is None or version == code else find_oldest_code(connection)
    if can_use(code, version, oldest):
        return
    if oldest is not None and oldest > code:
        raise SchemaTooNew(
            f"the database is at version {version}, which a newer LNPay made: only LNPay from version {oldest} on can "
            f"use it, and this is {code}. Install the newer LNPay here too"
        )
    raise SchemaTooNew(f"the database is at version {version}, this LNPay needs {code}")


def require_code(connection: Connection, code: str) -> None:
    """From now on, let only code of the version `code` or newer use the tables."""
    statement = text(
        "UPDATE alembic_version SET oldest_code = :code WHERE oldest_code_of = version_num AND oldest_code < :code"
    )
    connection.execute(statement, {"code": code})
