"""What the files of this folder share."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Connection, DateTime, Dialect, Row, Select, Table, Text, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.types import TypeDecorator

from lnpay.domain.encoding.json_text import Json, read_json_text, write_json_text

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

log = logging.getLogger(__name__)

_Record = TypeVar("_Record")

UNREADABLE_OPTION = "lnpay_unreadable"
"""The execution option of an engine that holds its UnreadableRows."""

LATELY_SECONDS = 600.0
"""A row that is still unreadable is met by every pass; one that is repaired is forgotten after this time."""

ODD_ROW = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)
"""What turning a row into a record may raise: a state of a later version, JSON, a number or a time that is none."""


class UtcDateTime(TypeDecorator[datetime]):
    """A UTC-aware datetime; SQLite, which knows no time zones, keeps it as naive UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError("times are UTC-aware")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """A Decimal kept as its digits: SQLite's NUMERIC would make a float of it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if not isinstance(value, Decimal):
            raise TypeError("fiat amounts and prices are Decimal")
        return format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class WholeSats(TypeDecorator[int]):
    """Sats, whole: SQLite would keep a fraction and PostgreSQL round it without a word."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        if value is not None and type(value) is not int:
            raise TypeError("sats are whole numbers")
        return value


class AnyJson(TypeDecorator[Any]):
    """Any JSON value as text, read again exactly as it was written: its numbers keep their form."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Json, dialect: Dialect) -> str:
        return write_json_text(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Json:
        return None if value is None else read_json_text(value)


class JsonText(TypeDecorator[dict[str, Any]]):
    """A JSON object as text, with Decimals (never floats) for its fractions."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, default=str, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any] | None:
        return None if value is None else json.loads(value, parse_float=Decimal)


class UnreadableRows:
    """Rows that could not be read lately. Safe to share between threads."""

    def __init__(self) -> None:
        self._seen_at: dict[tuple[str, int], float] = {}

    def note(self, table: str, row_id: int) -> None:
        """Remember a row, and log it the first time."""
        if (table, row_id) not in self._seen_at:
            log.error("row cannot be read table=%s id=%d", table, row_id)
        self._seen_at[table, row_id] = time.monotonic()

    def count(self) -> int:
        """How many there are."""
        now = time.monotonic()
        for row, seen_at in list(self._seen_at.items()):
            if now - seen_at > LATELY_SECONDS:
                self._seen_at.pop(row, None)
        return len(self._seen_at)


def read_rows(
    connection: Connection, table: Table, statement: Select[Any], to_record: Callable[[Row[Any]], _Record]
) -> list[_Record]:
    """The rows that `statement` selects of `table`, as records. One that cannot be read does not hide the others."""
    try:
        return [to_record(row) for row in connection.execute(statement)]
    except (*ODD_ROW, OperationalError) as error:
        if not is_about_a_row(error):
            raise
    return _read_one_by_one(connection, table, statement, to_record)


def is_about_a_row(error: Exception) -> bool:
    """Whether `error` says that a row cannot be read, rather than that the database is away."""
    return not isinstance(error, OperationalError) or "decode" in str(error.orig).lower()


def _read_one_by_one(
    connection: Connection, table: Table, statement: Select[Any], to_record: Callable[[Row[Any]], _Record]
) -> list[_Record]:
    """The same, a query for each row. Rows that cannot be read make room for the next ones within a LIMIT."""
    unreadable: UnreadableRows | None = connection.get_execution_options().get(UNREADABLE_OPTION)
    passed_over: set[int] = set()
    while True:
        wanted = statement.with_only_columns(table.c.id).where(table.c.id.not_in(passed_over))
        found: list[_Record] = []
        odd: set[int] = set()
        for row_id in connection.execute(wanted).scalars().all():
            try:
                found.append(to_record(connection.execute(select(table).where(table.c.id == row_id)).one()))
            except (*ODD_ROW, OperationalError) as error:
                if not is_about_a_row(error):
                    raise
                odd.add(row_id)
                if unreadable is not None:
                    unreadable.note(table.name, row_id)
        if not odd:
            return found
        passed_over |= odd


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
