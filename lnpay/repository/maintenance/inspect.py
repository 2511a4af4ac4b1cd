"""Inspect a database without changing it: nothing is created, migrated or written, and every wait is short."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from lnpay.domain.errors import StorageUnavailable
from lnpay.repository.maintenance.compatibility import can_use, find_oldest_code
from lnpay.repository.maintenance.postgres import postgres_engine, weakness_of
from lnpay.repository.maintenance.sqlite_url import sqlite_path, sqlite_uri

LONGEST_WAIT_SECONDS = 2
"""How long to wait for a lock or a connection: an inspection reports the current state and need not succeed."""

ONLY_READ, ANSWER_SOON = "SET TRANSACTION READ ONLY", "SET LOCAL statement_timeout = '8s'"
WAIT_BRIEFLY = f"SET LOCAL lock_timeout = '{LONGEST_WAIT_SECONDS}s'"
"""The settings of each PostgreSQL transaction that only reads, or tries to write."""

MOST_DAMAGES = 3
"""How many of SQLite's messages about a damaged file are read."""


@dataclass(frozen=True)
class Condition:
    """The result of an inspection. trouble: why the database cannot be read; then nothing else is known.

    path: SQLite's file; None for PostgreSQL. version: of the tables; None if there are none. journal_mode: SQLite's.
    write_trouble: why nothing can be written; None if writing works.
    commit_weakness: why a power cut may lose a commit; None if it cannot.
    oldest_code: the oldest code that may use the tables, if the database states it.
    """

    path: Path | None
    trouble: str | None = None
    version: str | None = None
    journal_mode: str | None = None
    write_trouble: str | None = None
    commit_weakness: str | None = None
    oldest_code: str | None = field(default=None, compare=False)

    def serves(self, code: str) -> bool:
        """Whether code of the version `code` may use the tables."""
        return can_use(code, self.version, self.oldest_code)


def look(database_url: str) -> Condition:
    """Inspect a database. Takes a few seconds at most, and never raises because of a faulty database."""
    path = sqlite_path(database_url)
    if path is not None and not path.exists():
        return Condition(path, "there is no such file")
    try:
        with _connection(database_url, can_write=False) as connection:
            version, journal_mode = version_of(connection), _journal_mode(connection)
            weakness = weakness_of(connection)
            oldest = None if version is None else find_oldest_code(connection)
    except StorageUnavailable as error:
        return Condition(path, error.message)
    return Condition(path, None, version, journal_mode, _try_to_write(database_url), weakness, oldest)


def find_damage(database_url: str) -> list[str]:
    """What SQLite finds wrong when it reads the whole file. Always empty for PostgreSQL, which checks its own pages.

    Raises StorageUnavailable when it cannot be read at all.
    """
    with _connection(database_url, can_write=False) as connection:
        if connection.dialect.name != "sqlite":
            return []
        rows = connection.exec_driver_sql(f"PRAGMA quick_check({MOST_DAMAGES})").scalars()
        return [str(row) for row in rows if row != "ok"]


def version_of(connection: Connection) -> str | None:
    """The migration that the tables are at; None when there are no tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def open_to_look(database_url: str, *, can_write: bool = False) -> Engine:
    """An engine that creates no file and changes no setting. can_write: for a transaction that is rolled back."""
    url = make_url(database_url)
    path = sqlite_path(database_url)
    if path is None:
        begin = (WAIT_BRIEFLY,) if can_write else (ONLY_READ, ANSWER_SOON)
        return postgres_engine(url, *begin, connect_args={"connect_timeout": LONGEST_WAIT_SECONDS})
    return create_engine(url, creator=lambda: _open_sqlite(path, can_write=can_write))


def _open_sqlite(path: Path, *, can_write: bool) -> sqlite3.Connection:
    # rw rather than ro: reading in WAL mode wants to write beside the file. It never makes the file itself.
    connection = sqlite3.connect(
        sqlite_uri(path.absolute(), "rw"),
        uri=True,
        timeout=LONGEST_WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute(f"PRAGMA query_only = {'OFF' if can_write else 'ON'}")
    return connection


@contextmanager
def _connection(database_url: str, *, can_write: bool) -> Iterator[Connection]:
    """One connection. Raises StorageUnavailable, with a message of ours that says what is wrong."""
    engine = open_to_look(database_url, can_write=can_write)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise StorageUnavailable(_in_words(error)) from error
    finally:
        engine.dispose()


def _journal_mode(connection: Connection) -> str | None:
    if connection.dialect.name != "sqlite":
        return None
    return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())


def _try_to_write(database_url: str) -> str | None:
    """Write a row back unchanged, and roll back. Returns why that failed, or None."""
    try:
        with _connection(database_url, can_write=True) as connection:
            is_sqlite = connection.dialect.name == "sqlite"
            if is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            if version_of(connection) is not None:
                connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
            if is_sqlite:
                connection.exec_driver_sql("ROLLBACK")
            connection.rollback()
    except StorageUnavailable as error:
        return error.message
    return None


_SQLITE_WORDS = {
    "SQLITE_BUSY": f"another process has kept it locked for more than {LONGEST_WAIT_SECONDS} seconds",
    "SQLITE_READONLY": "it is read-only for this user",
    "SQLITE_CANTOPEN": "it cannot be opened by this user",
    "SQLITE_PERM": "it cannot be opened by this user",
    "SQLITE_NOTADB": "the file is not an SQLite database",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "the disk could not be read or written",
}
_POSTGRES_WORDS = {
    "42501": "this user may not read or change the tables",
    "25006": "it is read-only, perhaps a standby of another server",
    "55P03": f"another process has kept it locked for more than {LONGEST_WAIT_SECONDS} seconds",
    "53300": "the server accepts no more connections",
    "53100": "the server's disk is full",
}

_CONNECTING_WORDS = {
    "password authentication failed": "the server refuses the password",
    'database "': "the server has no database of that name",
    'role "': "the server does not know this user",
    "too many": "the server accepts no more connections",
    "could not translate host name": "the server's name is not known (DNS)",
    "failed to resolve host": "the server's name is not known (DNS)",
}
"""By a part of the message, because errors before a connection exists have no code."""


def _in_words(error: DBAPIError) -> str:
    """A driver's error in our words. Its own text may contain parts of DATABASE_URL, so it is not shown."""
    name = getattr(error.orig, "sqlite_errorname", None)
    if isinstance(name, str):
        return _SQLITE_WORDS.get("_".join(name.split("_")[:2]), f"SQLite says {name}")
    code = getattr(error.orig, "sqlstate", None)
    if isinstance(code, str):
        return _POSTGRES_WORDS.get(code, f"PostgreSQL says {code}")
    known = (words for part, words in _CONNECTING_WORDS.items() if part in str(error.orig))
    return next(known, "the server cannot be reached")
