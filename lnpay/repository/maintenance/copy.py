"""Copy a database from SQLite to PostgreSQL, and compare every value afterwards.

The comparison is of the values as each database stores them, not as the program reads them: JSON must be the same text,
to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import zip_longest
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Table,
    TableClause,
    collate,
    column,
    func,
    insert,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import String, TypeDecorator, TypeEngine

from lnpay.domain.errors import Conflict, InvalidRequest, StorageUnavailable
from lnpay.repository.limits import Limits
from lnpay.repository.maintenance.backup_summary import read_contents
from lnpay.repository.maintenance.compatibility import FIRST, find_oldest_code, require_code
from lnpay.repository.maintenance.files import check_sound, close_out, opened
from lnpay.repository.maintenance.migrate import check_known, migrate
from lnpay.repository.maintenance.postgres import DURABLE_COMMIT, postgres_engine
from lnpay.repository.maintenance.sqlite_url import sqlite_path
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.repository.tables import UtcDateTime, metadata, shared_prices

BATCH = 1_000

NOT_COPIED = frozenset({shared_prices.name})
"""Prices are outdated within a minute and dated by the old database's time. They are fetched again."""

Progress = Callable[[str, int, int], None]
"""Called at each step with a description such as "copying invoices", the rows done, and the table's total."""


class CopyDiffers(StorageUnavailable):
    """The copy differs from the original. It was discarded."""

    code = "copy_differs"


def copy_database(source_url: str, target_url: str, now: datetime, on_progress: Progress) -> dict[str, int]:
    """Copy everything into an empty PostgreSQL database, all or nothing. Returns the rows of each table.

    The source is locked for writing meanwhile. Afterwards it counts as a backup of this moment: if LNPay ever starts on
    it again, it holds the refunds that may have been sent from the copy by then.
    Raises InvalidRequest, Conflict (the source is in use or old, the target is not empty), SchemaTooNew, CopyDiffers,
    StorageUnavailable. Then the target is as it was.
    """
    source = sqlite_path(source_url)
    if source is None:
        raise InvalidRequest("DATABASE_URL is PostgreSQL already: it must name the SQLite file to copy")
    engine = postgres_engine(_target(target_url), DURABLE_COMMIT, poolclass=NullPool)
    close_out(source)
    with opened(source, "rw") as old:
        old.exec_driver_sql("BEGIN IMMEDIATE")
        check_sound(old, source)
        _check_version(old)
        try:
            with engine.begin() as new:
                counts = _copy_all(old, new, on_progress)
        except (DataError, IntegrityError) as error:
            raise CopyDiffers(f"PostgreSQL rejects a row: {_first_line(error)}") from error
        except DBAPIError as error:
            raise StorageUnavailable(f"the new database cannot be used: {_first_line(error)}") from error
        Limits(old).mark_copied(now)
        old.exec_driver_sql("COMMIT")
    return counts


def _target(target_url: str) -> str:
    try:
        url = make_url(target_url)
    except (ArgumentError, ValueError):
        raise InvalidRequest("the new database must be postgresql+psycopg://user:password@host/name") from None
    if url.drivername != "postgresql+psycopg" or not url.database:
        raise InvalidRequest("the new database must be postgresql+psycopg://user:password@host/name")
    return target_url


def _check_version(old: Connection) -> None:
    version = read_contents(old).schema
    check_known(version)
    if version != SCHEMA_VERSION:
        raise Conflict(f"the database has the tables of an older version ({version}): start this LNPay on it once")


def _copy_all(old: Connection, new: Connection, on_progress: Progress) -> dict[str, int]:
    _check_empty(new)
    migrate(new)
    tables = [one for one in metadata.sorted_tables if one.name not in NOT_COPIED]
    counts = {one.name: _copy_table(old, new, one, on_progress) for one in tables}
    for one in tables:
        _compare_table(old, new, one, counts[one.name], on_progress)
    require_code(new, find_oldest_code(old) or FIRST)
    return counts


def _check_empty(new: Connection) -> None:
    there = set(inspect(new).get_table_names()) & set(metadata.tables)
    full = [name for name in sorted(there) if new.execute(select(func.count()).select_from(table(name))).scalar_one()]
    if full:
        raise Conflict(f"the new database is not empty (it has rows in {', '.join(full)}): create an empty one")


def _copy_table(old: Connection, new: Connection, one: Table, on_progress: Progress) -> int:
    plain = _as_kept(one)
    total = old.execute(select(func.count()).select_from(plain)).scalar_one()
    done = 0
    for rows in old.execute(_in_order(one, old), execution_options={"yield_per": BATCH}).partitions():
        new.execute(insert(plain), [dict(row._mapping) for row in rows])
        done += len(rows)
        on_progress(f"copying {one.name}", done, total)
    _advance_sequence(new, one)
    return done


def _advance_sequence(new: Connection, one: Table) -> None:
    """Let the next row get the next id: rows inserted with an id do not advance the sequence."""
    if "id" in one.c:
        newest = select(func.coalesce(func.max(one.c.id) + 1, 1)).scalar_subquery()
        new.execute(select(func.setval(func.pg_get_serial_sequence(one.name, "id"), newest, text("false"))))


def _compare_table(old: Connection, new: Connection, one: Table, total: int, on_progress: Progress) -> None:
    rows = zip_longest(_read(old, one), _read(new, one))
    for done, (expected, found) in enumerate(rows, start=1):
        if expected is None or found is None or tuple(expected) != tuple(found):
            raise CopyDiffers(
                f"{_difference(one, expected, found)}. The copy was discarded; the old database is unchanged"
            )
        if done % BATCH == 0 or done == total:
            on_progress(f"comparing {one.name}", done, total)


def _difference(one: Table, expected: Row[Any] | None, found: Row[Any] | None) -> str:
    row = expected if expected is not None else found
    assert row is not None  # noqa: S101 - zip_longest ends with the longer of the two
    name = ", ".join(f"{key.name} {row._mapping[key.name]}" for key in one.primary_key)
    if expected is None or found is None:
        return f"the copy differs in {one.name}, row {name}: it is {'new' if expected is None else 'missing'} there"
    columns = [key for key in expected._mapping if expected._mapping[key] != found._mapping[key]]
    return f"the copy differs in {one.name}, row {name}, column {', '.join(columns)}"


def _read(connection: Connection, one: Table) -> Iterator[Row[Any]]:
    return iter(connection.execute(_in_order(one, connection), execution_options={"yield_per": BATCH}))


def _in_order(one: Table, connection: Connection) -> Select[Any]:
    """Every row as stored, by primary key; texts are in byte order, as in SQLite."""
    plain = _as_kept(one)
    is_postgres = connection.dialect.name == "postgresql"
    keys = [
        collate(plain.c[key.name], "C") if is_postgres and isinstance(key.type, String) else plain.c[key.name]
        for key in one.primary_key
    ]
    return select(plain).order_by(*keys)


def _as_kept(one: Table) -> TableClause:
    """The table with the column types of the database instead of those of the program."""
    return table(one.name, *(column(each.name, _kept_type(each.type)) for each in one.c))


def _kept_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    # SQLite keeps times without their zone.
    if isinstance(kind, TypeDecorator) and not isinstance(kind, UtcDateTime):
        return kind.impl_instance
    return kind


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
