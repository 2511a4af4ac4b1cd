"""Opening the database, transactions, and bringing the tables up to date."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from lnpay.domain.errors import StorageUnavailable
from lnpay.repository.api_keys import ApiKeys
from lnpay.repository.deliveries import Deliveries
from lnpay.repository.heartbeats import Heartbeats
from lnpay.repository.installation import Installation
from lnpay.repository.invoices import Invoices
from lnpay.repository.limits import Limits
from lnpay.repository.logins import Logins
from lnpay.repository.maintenance.compatibility import check_usable
from lnpay.repository.maintenance.inspect import open_to_look, version_of
from lnpay.repository.maintenance.postgres import (
    ASYNCHRONOUS_COMMIT,
    DURABLE_COMMIT,
    bounded,
    is_cancelled,
    is_writable,
    lost_reason,
    postgres_engine,
)
from lnpay.repository.pruned import Pruned
from lnpay.repository.queries.archiving import Archive
from lnpay.repository.queries.attempts import Attempts
from lnpay.repository.queries.backlog import Backlog
from lnpay.repository.queries.figures import Figures
from lnpay.repository.queries.greenfield import GreenfieldInvoices
from lnpay.repository.queries.invoice_list import InvoiceList
from lnpay.repository.queries.ledger_queries import LedgerQueries
from lnpay.repository.queries.payment_status import PaymentStatuses
from lnpay.repository.queries.receives import Receives
from lnpay.repository.queries.refund_list import RefundList
from lnpay.repository.queries.refund_requests import RefundRequests
from lnpay.repository.queries.searches import Searches
from lnpay.repository.queries.shared_prices import SharedPrices
from lnpay.repository.refunds import Refunds
from lnpay.repository.restores import Restores
from lnpay.repository.sql import UNREADABLE_OPTION, UnreadableRows
from lnpay.repository.webhook_endpoints import WebhookEndpoints

log = logging.getLogger(__name__)

SCHEMA_VERSION = "0030"
"""The newest migration. A test compares it with the migrations."""

BUSY_TIMEOUT_MS = 10_000
"""How long SQLite waits for another process's transaction before it gives up."""

MAX_CONNECTIONS = 30
"""Default maximum of connections to PostgreSQL per process."""

KEPT_CONNECTIONS = 10
"""Idle connections to PostgreSQL that stay open; others are closed."""

MIGRATION_LOCK = 7_305_012_118
"""Advisory lock (any constant) that serializes migrations of processes starting at once on PostgreSQL."""


_IS_DURABLE = "lnpay_is_durable"

_ONLY_READS = "lnpay_only_reads"

OUR_MISTAKES = (DataError, IntegrityError, NotSupportedError, ProgrammingError)
"""Errors about a statement or row. All other database errors mean that the database is unavailable."""

FILE_TROUBLE = ("SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_READONLY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CORRUPT")
"""How SQLite's errors about the file or its disk begin."""


class Transaction:
    """One unit of work. Rows are reached by noun; nothing is visible to others before the commit."""

    def __init__(self, connection: Connection, steady: Callable[[], float] | None = None) -> None:
        self.invoices = Invoices(connection)
        self.attempts = Attempts(connection)
        self.refunds = Refunds(connection)
        self.refund_requests = RefundRequests(connection)
        self.deliveries = Deliveries(connection)
        self.webhook_endpoints = WebhookEndpoints(connection)
        self.limits = Limits(connection, steady)
        self.shared_prices = SharedPrices(connection, self.limits)
        self.heartbeats = Heartbeats(connection)
        self.payment_statuses = PaymentStatuses(connection)
        self.refund_list = RefundList(connection)
        self.searches = Searches(connection)
        self.invoice_list = InvoiceList(connection)
        self.logins = Logins(connection)
        self.backlog = Backlog(connection)
        self.ledger = LedgerQueries(connection)
        self.installation = Installation(connection)
        self.api_keys = ApiKeys(connection)
        self.restores = Restores(connection)
        self.figures = Figures(connection)
        self.pruned = Pruned(connection)
        self.receives = Receives(connection)
        self.greenfield = GreenfieldInvoices(connection)
        self.archive = Archive(connection)

    def read_through(self, newest: int = 2_000) -> None:
        """Read the newest rows of each table and every row that needs work, to learn which cannot be read."""
        self.invoices.read_through(newest)
        self.refunds.read_through(newest)
        self.deliveries.read_through(newest)
        self.pruned.read_through(newest)
        self.receives.read_through(newest)
        self.archive.read_through(newest)
        self.heartbeats.every()
        self.restores.every()


class Repository:
    """LNPay's database. Thread-safe. `unreadable`: rows recently skipped as unreadable."""

    def __init__(
        self,
        database_url: str,
        *,
        can_write: bool = True,
        steady: Callable[[], float] | None = None,
        max_connections: int = MAX_CONNECTIONS,
        statement_timeout_seconds: int = 0,
    ) -> None:
        """Open a database.

        can_write: False for read-only use; then nothing is created or set, not even WAL.
        steady: replaces the seconds by which calls to Strike are counted, for a test that moves time.
        max_connections, statement_timeout_seconds: only PostgreSQL has them; 0: no timeout. Migrations have none.
        """
        self._steady = steady
        limits = bounded(statement_timeout_seconds)
        self.engine = _create_engine(database_url, max_connections, limits) if can_write else open_to_look(database_url)
        self.unreadable = UnreadableRows()
        self.engine.update_execution_options(**{UNREADABLE_OPTION: self.unreadable})
        self._reading_engine = self.engine.execution_options(
            **_reading_options(self.engine, limits) if can_write else {}
        )
        self._asynchronous_engine = self.engine.execution_options(**{_IS_DURABLE: False})
        # SQLite's writers poll for its lock, at random and up to a tenth of a second apart. Inside one process a
        # lock of our own is fair and quick; between processes SQLite's busy timeout does it.
        self._write_turn = threading.Lock() if self.engine.dialect.name == "sqlite" else nullcontext()

    @contextmanager
    def transaction(self, *, is_durable: bool = True) -> Iterator[Transaction]:
        """A transaction that may write: commits at the end of the block, rolls back on an exception.

        is_durable: False saves the wait for the disk. A crash of the process loses nothing then, but a power cut may
        lose the commit, unless a durable one has followed. Only for what is worth nothing yet.
        """
        engine = self.engine if is_durable else self._asynchronous_engine
        with _translating(), self._write_turn, engine.begin() as connection:
            if not is_durable and connection.dialect.name == "postgresql":
                connection.exec_driver_sql(ASYNCHRONOUS_COMMIT)
            yield Transaction(connection, self._steady)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Read without blocking writers. Each query sees the newest commit."""
        with _translating(), self._reading_engine.connect() as connection:
            yield Transaction(connection, self._steady)

    def upgrade(self) -> None:
        """Create or migrate the tables. Several processes may call it at once.

        Raises SchemaTooNew when a newer LNPay has migrated them beyond what this one can use, and StorageUnavailable.
        """
        with _translating():
            if self._version() == SCHEMA_VERSION:
                return
            with self._write_turn, self.engine.begin() as connection:
                _migrate(connection)

    def ping(self) -> None:
        """Raise unless the database can be written and has tables that this version can use.

        Raises StorageUnavailable or SchemaTooNew.
        """
        with _translating(), self.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            check_usable(connection, SCHEMA_VERSION, version_of(connection))
            if not is_writable(connection):
                raise StorageUnavailable("the database is read-only: a standby of another server, perhaps")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _version(self) -> str | None:
        with self.engine.connect() as connection:
            return version_of(connection.execution_options(isolation_level="AUTOCOMMIT"))


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if isinstance(error, OUR_MISTAKES):
            raise
        name, reason = error.__class__.__name__, lost_reason(error) or _file_reason(error)
        if reason is None:
            log.error("database unavailable error=%s", name, exc_info=error)
        else:
            log.error("database unavailable error=%s reason=%s", name, reason)
        if is_cancelled(error):
            raise StorageUnavailable("the database took longer than DB_STATEMENT_TIMEOUT") from error
        raise StorageUnavailable("the database is not available right now") from error


def _file_reason(error: BaseException) -> str | None:
    """What is wrong with the SQLite file, in one line; None for any other error, whose place in the code matters."""
    original = getattr(error, "orig", None)
    is_about_file = getattr(original, "sqlite_errorname", "").startswith(FILE_TROUBLE)
    return str(original) if is_about_file else None


def _create_engine(database_url: str, max_connections: int = MAX_CONNECTIONS, limits: tuple[str, ...] = ()) -> Engine:
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite":
        kept = min(KEPT_CONNECTIONS, max_connections)
        pool = {"pool_pre_ping": True, "pool_size": kept, "max_overflow": max_connections - kept}
        return postgres_engine(url, DURABLE_COMMIT, *limits, **pool)
    # Parameters include tokens and addresses, which must not be logged with an error.
    engine = create_engine(url, pool_size=20, max_overflow=20, hide_parameters=True)
    event.listen(engine, "do_connect", _make_private)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    event.listen(engine, "checkin", _make_durable)
    return engine


def _reading_options(engine: Engine, limits: tuple[str, ...]) -> dict[str, Any]:
    """The options of connections that read without a transaction."""
    if engine.dialect.name == "sqlite":
        # Its driver does so by itself; AUTOCOMMIT would be set and taken back for each connection.
        return {_ONLY_READS: True}
    # The timeout is set per transaction, because a pooler may share the session.
    return {} if limits else {"isolation_level": "AUTOCOMMIT"}


def _make_private(_dialect: object, _record: object, arguments: list[Any], _named: object) -> None:
    """Create the file readable by its owner alone; SQLite gives its companion files the same mode.

    It holds payment page tokens and customers' addresses. SQLite itself would follow the umask.
    """
    path = str(arguments[0])
    if path and path != ":memory:" and not path.startswith("file:"):
        # If this fails, SQLite reports the reason.
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _prepare_sqlite(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    """Set SQLite's per-connection options, and stop the driver from issuing BEGIN itself."""
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    # A refund's key must survive a power cut, not only a crash of the process.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _make_durable(dbapi_connection: sqlite3.Connection | None, record: ConnectionPoolEntry) -> None:
    """Give a connection back as it was before a transaction that did not wait for the disk."""
    if dbapi_connection is not None and not record.info.pop(_IS_DURABLE, True):
        dbapi_connection.execute("PRAGMA synchronous = FULL").close()


def _begin_immediate(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(_ONLY_READS) or options.get("isolation_level") == "AUTOCOMMIT":
        return
    if not options.get(_IS_DURABLE, True):
        connection.info[_IS_DURABLE] = False
        connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
    # A deferred transaction that reads and then writes can fail with SQLITE_BUSY immediately, despite the timeout.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    # Imported here because a start with an up-to-date database should not pay for it.
    from lnpay.repository.maintenance.migrate import migrate

    if connection.dialect.name == "postgresql":
        # Creating an index on a large table, or waiting for another process to do so, must not time out.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    migrate(connection)
