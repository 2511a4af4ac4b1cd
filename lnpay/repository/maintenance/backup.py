"""Back up the database while it is in use, and restore a backup."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from lnpay.domain.errors import Conflict, InvalidRequest, StorageUnavailable
from lnpay.repository.limits import Limits
from lnpay.repository.maintenance.backup_summary import Contents, read_contents
from lnpay.repository.maintenance.files import (
    COMPANIONS,
    check_sound,
    close_out,
    copy_into,
    new_beside,
    opened,
    put_into_place,
    telling_of_files,
)
from lnpay.repository.maintenance.migrate import check_known


@dataclass(frozen=True)
class Backup:
    """A finished backup."""

    path: Path
    size_bytes: int
    contents: Contents


@dataclass(frozen=True)
class Restore:
    """The result of a restore. aside: where the previous database is now; None if there was none."""

    contents: Contents
    aside: Path | None


@telling_of_files()
def choose_target(file: Path, now: datetime, suffix: str, *, may_overwrite: bool) -> Path:
    """Where a backup goes: `file`, or a dated name in it if it is a folder. Raises Conflict, InvalidRequest."""
    target = file / f"lnpay-{now:%Y%m%dT%H%M%SZ}{suffix}" if file.is_dir() else file
    if not target.parent.is_dir():
        raise InvalidRequest(f"{target.parent} is not a folder: create it first")
    if target.exists() and not may_overwrite:
        raise Conflict(f"{target} exists already: choose another name, or overwrite it with --force")
    return target


@telling_of_files()
def back_up(database: Path, target: Path, now: datetime) -> Backup:
    """Take a consistent copy of the database while servers and workers keep running.

    The copy is checked before it gets its name. Raises StorageUnavailable, InvalidRequest.
    """
    if target.exists() and database.exists() and target.samefile(database):
        raise InvalidRequest("this is the database itself: choose another name for the backup")
    with new_beside(target) as part:
        # "rw" although nothing is written, because the last connection to close a WAL database cleans up its files.
        contents = _copy(database, "rw", part)
        with opened(part, "rw") as copy:
            _mark(copy, now)
        put_into_place(part, target)
    return Backup(target, target.stat().st_size, contents)


def check_backup(backup: Path) -> Contents:
    """Read a whole backup, and check that this version can use it.

    Raises InvalidRequest if it is damaged or not a database of LNPay, SchemaTooNew, StorageUnavailable.
    """
    with opened(backup) as connection:
        check_sound(connection, backup)
        contents = read_contents(connection)
    check_known(contents.schema)
    return contents


@telling_of_files()
def restore(backup: Path, database: Path, now: datetime, *, is_forced: bool = False) -> Restore:
    """Replace the database with a backup; the previous one is kept under another name.

    is_forced: proceed even if the database is too damaged to tell whether it is in use.
    Raises what check_backup raises; Conflict while the database is in use. Then nothing was changed.
    """
    check_backup(backup)
    if database.exists() and backup.samefile(database):
        raise InvalidRequest("this is the database itself: name a backup")
    with new_beside(database) as part:
        contents = _copy(backup, "ro", part)
        with opened(part, "rw") as copy:
            # A plain copy of the file, made without `backup`, has no mark but must be treated as a backup too.
            if not Limits(copy).is_new_copy():
                _mark(copy, now)
        was_sound = _close(database, is_forced=is_forced)
        aside = _keep(database, now)
        _give_to_owner(part, database)
        put_into_place(part, database)
    if aside is not None and was_sound:
        # Restoring this copy later must hold refunds sent until then, as with any other backup.
        with opened(aside, "rw") as before:
            _mark(before, now)
    return Restore(contents, aside)


def _copy(source: Path, mode: str, target: Path) -> Contents:
    """Copy, and compare the copy with what was copied."""
    with opened(source, mode) as original, opened(target, "rw") as copy:
        original.exec_driver_sql("BEGIN")
        expected = read_contents(original)
        copy_into(original, copy)
    with opened(target) as copy:
        check_sound(copy, target)
        contents = read_contents(copy)
    if contents != expected:
        raise StorageUnavailable("the copy differs from the database: try again, on another disk")
    return contents


def _mark(connection: Connection, at: datetime) -> None:
    Limits(connection).mark_copied(at)


def _close(database: Path, *, is_forced: bool) -> bool:
    """Whether the database is undamaged and not in use. Raises Conflict if it is in use, or may be, unless forced."""
    try:
        if database.exists():
            close_out(database)
    except (InvalidRequest, StorageUnavailable) as error:
        if is_forced:
            return False
        raise Conflict(
            f"{error.message}. LNPay may therefore still be running: stop everything, then use --force",
            code="database_busy",
        ) from error
    return True


def _keep(database: Path, now: datetime) -> Path | None:
    """Give the database a second name, under which it is kept. None if there is no database."""
    if not database.exists():
        return None
    aside = database.with_name(f"{database.name}.before-{now:%Y%m%dT%H%M%SZ}")
    _link_or_copy(database, aside)
    for suffix in COMPANIONS:
        with suppress(FileNotFoundError):
            os.replace(f"{database}{suffix}", f"{aside}{suffix}")
    return aside


def _link_or_copy(database: Path, aside: Path) -> None:
    # Not renamed: if LNPay started at this moment, it would find no file and create an empty database.
    try:
        os.link(database, aside)
    except OSError:
        shutil.copy2(database, aside)


def _give_to_owner(part: Path, database: Path) -> None:
    """Let the user who runs LNPay use a file that root may have created."""
    if database.exists():
        shutil.copymode(database, part)
    status = (database if database.exists() else database.parent).stat()
    with suppress(OSError, AttributeError):
        os.chown(part, status.st_uid, status.st_gid)
