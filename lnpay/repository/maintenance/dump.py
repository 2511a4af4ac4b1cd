"""A backup of a PostgreSQL database, by PostgreSQL's own pg_dump."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sqlalchemy import URL, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from lnpay.domain.errors import StorageUnavailable
from lnpay.repository.maintenance.backup import Backup
from lnpay.repository.maintenance.backup_summary import read_contents
from lnpay.repository.maintenance.files import new_beside, put_into_place, telling_of_files
from lnpay.repository.maintenance.postgres import require_direct


@telling_of_files()
def dump(database_url: str, target: Path) -> Backup:
    """Dump a database as it is at one moment, in pg_dump's custom format, and read the dump once.

    Raises StorageUnavailable when pg_dump is missing or fails, InvalidRequest if it is not an LNPay database.
    """
    url = make_url(database_url)
    pg_dump = _tool("pg_dump")
    engine = create_engine(url, poolclass=NullPool, isolation_level="REPEATABLE READ")
    with new_beside(target) as part:
        try:
            with engine.connect() as connection:
                # pg_dump empties the search path of its session.
                require_direct(connection, "backup")
                contents = read_contents(connection)
                # The dump shows the same rows as the counts.
                snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
                options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
                _run(url, [pg_dump, *options, f"--file={part}", f"--dbname={_address(url)}"])
        except OperationalError as error:
            raise StorageUnavailable("the database is not available right now") from error
        check_dump(part)
        put_into_place(part, target)
    return Backup(target, target.stat().st_size, contents)


def check_dump(file: Path) -> None:
    """Read all of a dump. Raises StorageUnavailable when it cannot be read, or pg_restore is missing."""
    _run(None, [_tool("pg_restore"), f"--file={os.devnull}", str(file)])


def restore_command(database_url: str, file: Path) -> str:
    """The command with which the operator restores a dump."""
    url = make_url(database_url)
    options = "--clean --if-exists --no-owner --single-transaction --exit-on-error"
    return f'pg_restore {options} --dbname="{_address(url)}" "{file}"'


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise StorageUnavailable(f"{name} is not installed: install PostgreSQL's client tools in the server's version")
    return found


def _run(url: URL | None, command: list[str]) -> None:
    # The process list shows arguments, so the password goes into the environment.
    password = {} if url is None or url.password is None else {"PGPASSWORD": str(url.password)}
    environ = {**os.environ, **password}
    done = subprocess.run(command, env=environ, capture_output=True, encoding="locale", errors="replace", check=False)  # noqa: S603
    if done.returncode:
        why = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise StorageUnavailable(f"{Path(command[0]).name} failed: {why}")


def _address(url: URL) -> str:
    """The database's address for PostgreSQL's tools, without the password."""
    # `set` takes None for "leave it".
    return url.set(drivername="postgresql")._replace(password=None).render_as_string()
