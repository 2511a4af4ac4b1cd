"""What the files of this folder share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows the ON CONFLICT of the database at hand."""
    if connection.dialect.name == "postgresql":
        # Every start over SQLite would pay for PostgreSQL's drivers otherwise.
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    return sqlite.insert(table)


def insert_unless_there(connection: Connection, table: Table, values: dict[str, Any]) -> int | None:
    """Insert a row and return its id, or None when a unique column says that it is there already."""
    statement = insert_into(connection, table).values(values).on_conflict_do_nothing().returning(table.c.id)
    return connection.execute(statement).scalar()


def upsert(
    connection: Connection,
    table: Table,
    key: dict[str, Any],
    new: dict[str, Any],
    change: dict[str, Any],
    where: ColumnElement[bool] | None = None,
) -> postgresql.Insert | sqlite.Insert:
    """An INSERT of `key` and `new` that makes `change` instead where there is a row of that key, if `where` holds."""
    statement = insert_into(connection, table).values({**key, **new})
    return statement.on_conflict_do_update(index_elements=list(key), set_=change, where=where)
