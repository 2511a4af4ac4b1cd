"""Shared helpers of this package: reading rows, and inserts."""

from __future__ import annotations

import logging
import time
import types
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sqlalchemy import (
    BigInteger,
    ColumnClause,
    ColumnElement,
    Connection,
    Executable,
    Row,
    Select,
    Table,
    case,
    column,
    func,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DataError, OperationalError

from lnpay.domain.errors import UnreadableRow
from lnpay.domain.money import MAX_SATS
from lnpay.repository.schema.column_types import UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

log = logging.getLogger(__name__)

_Record = TypeVar("_Record")

Sought = Mapping[str, object] | None
"""Values for the bind parameters of a statement that is built once: building it takes longer than running it."""

UNREADABLE_OPTION = "lnpay_unreadable"
"""The execution option of an engine that holds its UnreadableRows."""

LATELY_SECONDS = 600.0
"""Every pass meets a row that is still unreadable; a repaired one is forgotten after this time."""

ODD_ROW = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)
"""Errors of turning a row into a record: an unknown state, or an invalid number, time or JSON value."""

ODD_ANSWER = (*ODD_ROW, OperationalError, DataError)
"""The same, or what a driver raises before there is a row; see `is_about_a_row`."""

MOST_NAMED = 10
"""How many unreadable rows a sentence names."""


class UnreadableRows:
    """Rows that could not be read recently. Thread-safe."""

    def __init__(self) -> None:
        self._seen_at: dict[str, float] = {}

    def note(self, table: str, key: object) -> None:
        """Record a row, and log it the first time."""
        name = f"{table} {key}"
        if name not in self._seen_at:
            log.error("unreadable row table=%s key=%s", table, key)
        self._seen_at[name] = time.monotonic()

    def count(self) -> int:
        """How many there are."""
        return len(self.names())

    def names(self) -> list[str]:
        """Their tables and keys, as "invoices 17"."""
        now = time.monotonic()
        for name, seen_at in list(self._seen_at.items()):
            if now - seen_at > LATELY_SECONDS:
                self._seen_at.pop(name, None)
        return sorted(self._seen_at)

    def in_words(self) -> str | None:
        """A sentence that names them, for the operator; None when there is none."""
        names = self.names()
        if not names:
            return None
        rows = "1 row of the database is" if len(names) == 1 else f"{len(names):,} rows of the database are"
        more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
        return f"{rows} unreadable and left out: {', '.join(names[:MOST_NAMED])}{more}"


def checked(record: _Record) -> _Record:
    """The same record. Raises TypeError if a field's value does not match its annotation.

    SQLite stores any value in any column, and a column that may be NULL in a draft must not be NULL in an invoice.
    """
    fields = _ALLOWED.get(type(record)) or _learn(type(record))
    for name, allowed in fields:
        value = getattr(record, name)
        if not isinstance(value, allowed) or (type(value) is bool and bool not in allowed):
            raise TypeError(f"{name} is {type(value).__name__}")
    return record


def require(*conditions: bool) -> None:
    """Raise ValueError unless each condition holds: the CHECKs again, for rows that bypassed them."""
    if not all(conditions):
        raise ValueError("the row contradicts itself")


_Fields = tuple[tuple[str, tuple[type, ...]], ...]

_ALLOWED: dict[type, _Fields] = {}
"""Allowed types of each field, by record class."""


def _learn(kind: type) -> _Fields:
    hints = get_type_hints(kind)
    return _ALLOWED.setdefault(kind, tuple((name, _types(hint)) for name, hint in hints.items()))


def _types(hint: Any) -> tuple[type, ...]:  # noqa: ANN401 - an annotation may be anything
    if hint is Any:
        return (object,)
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(one for part in get_args(hint) for one in _types(part))
    return (get_origin(hint) or hint,)


def read_rows(
    connection: Connection,
    table: Table,
    statement: Select[Any],
    to_record: Callable[[Row[Any]], _Record],
    sought: Sought = None,
) -> list[_Record]:
    """The rows that `statement` selects, as records. An unreadable row does not hide the others.

    table: its key identifies the rows; the statement selects each of its rows at most once.
    """
    return _read(connection, table, statement, to_record, sought)[0]


def read_one(
    connection: Connection,
    table: Table,
    statement: Select[Any],
    to_record: Callable[[Row[Any]], _Record],
    sought: Sought = None,
) -> _Record | None:
    """The first row that `statement` selects, as a record; None without a row. Raises UnreadableRow."""
    found, odd = _read(connection, table, statement, to_record, sought)
    if odd and not found:
        raise UnreadableRow(f"the row {table.name} {min(odd, key=str)} of the database cannot be read")
    return found[0] if found else None


def read_every(
    connection: Connection, table: Table, statement: Select[Any], to_record: Callable[[Row[Any]], _Record]
) -> list[_Record]:
    """The same as `read_rows`, for decisions that one missing row would make wrong. Raises UnreadableRow."""
    found, odd = _read(connection, table, statement, to_record, None)
    if odd:
        raise UnreadableRow(f"the row {table.name} {min(odd, key=str)} of the database cannot be read")
    return found


def _read(
    connection: Connection,
    table: Table,
    statement: Select[Any],
    to_record: Callable[[Row[Any]], _Record],
    sought: Sought,
) -> tuple[list[_Record], set[Any]]:
    """The records, and the keys of the skipped rows."""
    try:
        return [to_record(row) for row in connection.execute(statement, sought)], set()
    except ODD_ANSWER as error:
        if not is_about_a_row(error):
            raise
    return _read_one_by_one(connection, table, statement, to_record, sought)


class FirstMoment:
    """The earliest (or newest) time in a column among the readable rows for which a condition holds.

    Create it once: building its statements takes longer than running them. The condition may have bind parameters.
    """

    def __init__(
        self,
        table: Table,
        moment: ColumnElement[datetime],
        condition: ColumnElement[bool],
        *,
        is_newest: bool = False,
    ) -> None:
        self._table = table
        least = func.max(moment) if is_newest else func.min(moment)
        self._least = select(type_coerce(least, UtcDateTime).label("moment")).where(condition)
        order = moment.desc() if is_newest else moment
        in_order = select(moment.label("moment")).where(condition, moment.is_not(None)).order_by(order)
        self._first_readable = in_order.limit(1)

    def find(self, connection: Connection, sought: Sought = None) -> datetime | None:
        """That time; None if there is none."""
        try:
            row = connection.execute(self._least, sought).one()
            return None if row.moment is None else to_moment(row)
        except ODD_ANSWER as error:
            if not is_about_a_row(error):
                raise
        # The first value is not a valid time: the next one counts.
        found = read_rows(connection, self._table, self._first_readable, to_moment, sought)
        return found[0] if found else None


def to_moment(row: Row[Any]) -> datetime:
    """The time in a row's column `moment`."""
    if not isinstance(row.moment, datetime):
        raise TypeError("not a time")
    return row.moment


def sum_of(sats: ColumnElement[int]) -> ColumnElement[int]:
    """The sum of amounts of sats; 0 for no rows. Invalid values are ignored, so that none makes the query fail."""
    amount = case((sats.between(0, literal(MAX_SATS, BigInteger)), sats), else_=0)
    # PostgreSQL returns a sum as a Decimal.
    return type_coerce(func.coalesce(func.sum(amount), 0), BigInteger)


def is_about_a_row(error: Exception) -> bool:
    """Whether `error` means an unreadable row, rather than an unavailable database or a bug of ours."""
    if isinstance(error, OperationalError):
        return "decode" in str(error.orig).lower()
    # A value that psycopg itself cannot convert raises an error without an SQLSTATE.
    return not isinstance(error, DataError) or getattr(error.orig, "sqlstate", None) is None


def _read_one_by_one(
    connection: Connection,
    table: Table,
    statement: Select[Any],
    to_record: Callable[[Row[Any]], _Record],
    sought: Sought,
) -> tuple[list[_Record], set[Any]]:
    """The same with one query per row. Readable rows take the place of unreadable ones within a LIMIT."""
    key = _key_of(connection, table)
    one_row = statement.limit(None).order_by(None)
    unreadable: UnreadableRows | None = connection.get_execution_options().get(UNREADABLE_OPTION)
    found: dict[Any, _Record] = {}
    odd: set[Any] = set()
    while True:
        wanted = connection.execute(statement.with_only_columns(key).where(key.not_in(odd)), sought).scalars().all()
        for one in wanted:
            if one in found:
                continue
            try:
                # A row that has been deleted or no longer matches meanwhile does not count.
                for row in connection.execute(one_row.where(key == one), sought):
                    found[one] = to_record(row)
            except ODD_ANSWER as error:
                if not is_about_a_row(error):
                    raise
                odd.add(one)
                if unreadable is not None:
                    unreadable.note(table.name, one)
        if odd.isdisjoint(wanted):
            return [found[one] for one in wanted if one in found], odd


def _key_of(connection: Connection, table: Table) -> ColumnElement[Any]:
    """The column that identifies a table's rows; on SQLite the rowid if there is no id, as a key may be unreadable."""
    if connection.dialect.name == "sqlite" and "id" not in table.c:
        rowid: ColumnClause[Any] = column("rowid")
        rowid.table = table
        return rowid
    return next(iter(table.primary_key.columns))


def insert_into(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT with this database's ON CONFLICT."""
    if dialect == "postgresql":
        # Imported here so that starts with SQLite do not load PostgreSQL's drivers.
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    return sqlite.insert(table)


def by_column(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values by column key. Raises KeyError for a name without a column, which SQLAlchemy would ignore."""
    return {table.c[name].key: value for name, value in values.items()}


def insert_unless_there(connection: Connection, table: Table, values: dict[str, Any]) -> int | None:
    """Insert a row and return its id; None if a unique column shows that it exists already."""
    return connection.execute(_insert_unless_there(connection.dialect.name, table), by_column(table, values)).scalar()


@cache
def _insert_unless_there(dialect: str, table: Table) -> Executable:
    return insert_into(dialect, table).on_conflict_do_nothing().returning(table.c.id)


def unless_locked(connection: Connection, table: Table, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """`condition`, for an UPDATE that claims a row of `table` without waiting for other transactions that claim it.

    On PostgreSQL a row that another transaction has locked does not match. SQLite has one writer at a time and no row
    locks.
    """
    if connection.dialect.name != "postgresql":
        return condition
    free = select(table.c.id).where(condition).with_for_update(skip_locked=True)
    return table.c.id.in_(free.correlate(None))


def upsert(
    connection: Connection,
    table: Table,
    key: dict[str, Any],
    new: dict[str, Any],
    change: dict[str, Any],
    where: ColumnElement[bool] | None = None,
) -> postgresql.Insert | sqlite.Insert:
    """An INSERT of `key` and `new`; if a row with that key exists and `where` holds, it gets `change` instead."""
    statement = insert_into(connection.dialect.name, table).values({**key, **new})
    return statement.on_conflict_do_update(index_elements=list(key), set_=change, where=where)
