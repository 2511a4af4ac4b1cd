"""A database as one SQLite file: open it without the settings of the server, check it, copy it, replace it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from lnpay.domain.errors import Conflict, InvalidRequest, StorageUnavailable
from lnpay.repository.maintenance.sqlite_url import sqlite_uri

COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file while it is open, and after a crash."""

QUIET_SECONDS = 2.0
"""Long enough for a worker's short pass to end; a server would not end."""


@contextmanager
def telling_of_files() -> Iterator[None]:
    """Raise errors of the disk or a folder as StorageUnavailable, with a readable message."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"{error.filename or 'the disk'} cannot be used: {error.strerror}") from error


@contextmanager
def opened(path: Path, mode: str = "ro") -> Iterator[Connection]:
    """A connection to an existing SQLite file, without a transaction. mode: "ro" or "rw".

    Raises StorageUnavailable when the file cannot be read, InvalidRequest when it is damaged or not a database.
    """

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(sqlite_uri(path.absolute(), mode), uri=True, isolation_level=None, timeout=10)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
    except (OperationalError, sqlite3.OperationalError) as error:
        raise StorageUnavailable(f"{path} cannot be used: {_words(error)}") from error
    except (DatabaseError, sqlite3.DatabaseError) as error:
        raise InvalidRequest(f"{path} is damaged or not a database: {_words(error)}") from error


def _words(error: Exception) -> str:
    """What SQLite says, without the statement."""
    return str(error.orig if isinstance(error, DatabaseError) else error)


def check_sound(connection: Connection, path: Path) -> None:
    """Have SQLite check the whole file. Raises InvalidRequest if it is damaged."""
    verdict = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    if verdict != "ok":
        raise InvalidRequest(f"{path} is damaged: {verdict}")
    if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise InvalidRequest(f"{path} is damaged: a row refers to a missing one")


def copy_into(source: Connection, target: Connection) -> None:
    """Copy all of one file into another. Writers are not blocked; what they write meanwhile is not in the copy."""
    to = target.connection.driver_connection
    assert isinstance(to, sqlite3.Connection)  # noqa: S101 - `opened` made it
    source.connection.driver_connection.backup(to)  # type: ignore[union-attr]
    # A single file, without companion files.
    target.exec_driver_sql("PRAGMA journal_mode = DELETE")


def close_out(path: Path) -> None:
    """Make sure that no process has a database open, and fold its companions into the file.

    Raises Conflict if one has; InvalidRequest if it is damaged; StorageUnavailable. Then nothing was changed.
    """
    with opened(path) as connection:
        # Read-only first: opened for writing, SQLite deletes the companions of a file that it cannot read.
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    try:
        with opened(path, "rw") as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(QUIET_SECONDS * 1000)}")
            # This fails unless it is the only connection.
            connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
    except StorageUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, OperationalError) and "locked" in str(cause.orig):
            raise Conflict(
                "LNPay is running on this database: stop the server, the workers and their cron jobs, then try again",
                code="database_busy",
            ) from error
        raise


@contextmanager
def new_beside(path: Path) -> Iterator[Path]:
    """An empty file in the folder of `path` that only this user may read; deleted at the end unless it was renamed."""
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(number)
    try:
        yield Path(name)
    finally:
        for suffix in ("", *COMPANIONS):
            Path(name + suffix).unlink(missing_ok=True)


def put_into_place(new: Path, path: Path) -> None:
    """Rename a finished file to `path`, so that a power cut leaves either what was there or all of the new one."""
    _sync(new)
    os.replace(new, path)
    # Not every system can do this to a folder.
    with suppress(OSError):
        _sync(path.parent)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)
