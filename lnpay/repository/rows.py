"""What the files of this folder share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_unless_there(connection: Connection, table: Table, values: dict[str, Any]) -> int | None:
    """Insert a row and return its id, or None when a unique column says that it is there already."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(values).on_conflict_do_nothing().returning(table.c.id)
    return connection.execute(statement).scalar()
