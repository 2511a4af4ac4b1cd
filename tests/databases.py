"""Databases for tests: a new PostgreSQL database on a server that is there, gone again at the end."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import NullPool
from sqlalchemy.util import LRUCache

from lnpay.repository import Repository

_COMPILED: dict[type[Dialect], LRUCache[Any, Any]] = {}


def share_compiled_statements() -> None:
    """Compile a statement once for all databases of a kind, not once for each.

    SQLAlchemy keeps compiled statements for each engine and each dialect object. A test has a database of its own, and
    compiling took half of its time. All databases of a kind have the same version here, so their dialects are equal.
    """
    DefaultDialect.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
    DefaultDialect.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]

    @event.listens_for(Engine, "engine_connect")
    def share(connection: Connection) -> None:
        connection.engine._compiled_cache = _COMPILED.setdefault(type(connection.dialect), LRUCache(10_000))


@contextmanager
def fresh_postgres(server_url: str, template: str = "template1") -> Iterator[str]:
    """URL of a new database; connections that are still open at the end are closed by force."""
    name = f"lnpay_test_{uuid.uuid4().hex}"
    run_on_server(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        run_on_server(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def migrated_postgres(server_url: str) -> Iterator[str]:
    """URL of a new database with every table and no row. Copying one takes a fifth of the time of migrating it."""
    with fresh_postgres(server_url, _migrated_template(server_url)) as url:
        yield url


@cache
def _migrated_template(server_url: str) -> str:
    """Name of a database to copy, which is dropped by `drop_template`."""
    name = f"lnpay_template_{uuid.uuid4().hex}"
    run_on_server(server_url, f"CREATE DATABASE {name}")
    repository = Repository(make_url(server_url).set(database=name).render_as_string(hide_password=False))
    repository.upgrade()
    repository.close()
    return name


def drop_template(server_url: str) -> None:
    """Leave nothing behind on a server that outlives the tests."""
    if _migrated_template.cache_info().currsize:
        run_on_server(server_url, f"DROP DATABASE {_migrated_template(server_url)}")


@contextmanager
def synced(server_url: str) -> Iterator[None]:
    """A server that waits for the disk: the tests' own does not, unless one asks for it."""
    if run_on_server(server_url, "SHOW fsync") == "on":
        yield
        return
    set_fsync(server_url, "on")
    try:
        yield
    finally:
        set_fsync(server_url, "off")


def set_fsync(server_url: str, value: str) -> None:
    """Change whether a server waits for the disk, for every connection from now on."""
    run_on_server(server_url, f"ALTER SYSTEM SET fsync = {value}", "SELECT pg_reload_conf()")
    deadline = time.monotonic() + 30
    while run_on_server(server_url, "SHOW fsync") != value:
        assert time.monotonic() < deadline, "PostgreSQL has not read its settings"
        time.sleep(0.01)


def run_on_server(server_url: str, *statements: str) -> object:
    """Run statements that no transaction may contain. Returns the first value of the last one, if it has rows."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    value = None
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
            value = result.scalar() if result.returns_rows else None
    return value


def find_postgres_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put pg_dump and pg_restore of the server's own version first in PATH, if the server came from its wheel."""
    if "TEST_POSTGRES_URL" in os.environ:
        return  # a named server comes with tools of its version
    pgserver = pytest.importorskip("pgserver")
    monkeypatch.setenv("PATH", str(Path(pgserver.__file__).parent / "pginstall" / "bin"), prepend=os.pathsep)
