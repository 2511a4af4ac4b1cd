"""Databases for tests: a new PostgreSQL database on a server that is there, gone again at the end."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool


@contextmanager
def fresh_postgres(server_url: str) -> Iterator[str]:
    """URL of a new database; connections that are still open at the end are closed by force."""
    name = f"lnpay_test_{uuid.uuid4().hex}"
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def find_postgres_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put pg_dump and pg_restore of the server's own version first in PATH, if the server came from its wheel."""
    if "TEST_POSTGRES_URL" in os.environ:
        return  # a named server comes with tools of its version
    pgserver = pytest.importorskip("pgserver")
    monkeypatch.setenv("PATH", str(Path(pgserver.__file__).parent / "pginstall" / "bin"), prepend=os.pathsep)
