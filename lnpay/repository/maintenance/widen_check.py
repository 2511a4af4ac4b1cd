"""Helpers for migrations: let a CHECK accept more values, or a column longer text.

The table may have a million rows, so it is not rewritten.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def widen_check(table: str, name: str, old: str, new: str) -> None:
    """Replace the condition `old` of the constraint `name` with `new`, which must hold wherever `old` holds."""
    if op.get_bind().dialect.name == "sqlite":
        _widen_sqlite(table, old, new)
        return
    op.drop_constraint(name, table, type_="check")
    op.create_check_constraint(name, table, sa.text(new))


def widen_text(table: str, column: str, old: int, new: int) -> None:
    """Let `column`, a text of at most `old` characters, hold `new` characters."""
    if op.get_bind().dialect.name == "sqlite":
        _widen_sqlite(table, f"{column} VARCHAR({old})", f"{column} VARCHAR({new})")
        return
    op.alter_column(table, column, type_=sa.String(new), existing_type=sa.String(old), existing_nullable=False)


def _widen_sqlite(table: str, old: str, new: str) -> None:
    """SQLite cannot change a constraint. Its documentation changes the stored text of the table instead, where the
    rows stay as they are ("Making Other Kinds Of Table Schema Changes"); copying the table would break foreign keys.
    """
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.execute(
        sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :old, :new) "
            "WHERE type = 'table' AND name = :name AND instr(sql, :old) > 0"
        ),
        {"old": old, "new": new, "name": table},
    ).rowcount
    # Other connections read the tables again when this number has changed.
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
    if changed != 1:
        raise RuntimeError(f"the table {table} has nothing of the form: {old}")
