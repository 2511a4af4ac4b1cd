"""Connections to PostgreSQL: directly, to a cluster whose primary changes, or through a pooler that shares sessions.

A pooler in transaction mode (PgBouncer) gives each transaction any session of the server. So nothing is prepared or
set on a session: what a transaction needs is set inside it, with SET LOCAL.
"""

from __future__ import annotations

from typing import Any, Final, cast

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from lnpay.domain.errors import StorageUnavailable

DURABLE_COMMIT: Final = (
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
)
"""A refund's key must survive a power cut, not only a crash of the process, overriding server, database and role. The
values left alone wait for this server's disk and, where there is one, for a synchronous standby's."""

ASYNCHRONOUS_COMMIT: Final = "SET LOCAL synchronous_commit = off"
"""For a commit that need not survive a power cut."""

CONNECTING: Final = {
    "connect_timeout": "5",
    "tcp_user_timeout": "20000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""A server that vanishes silently is given up after about 20 seconds; TCP alone would retry for a quarter of an hour.
DATABASE_URL may set other values."""

CANCELLED: Final = "57014"
"""SQLSTATE of a statement that took longer than `statement_timeout`."""

LOST_SERVER: Final = ("25006", "57P01", "57P02", "57P03")
"""SQLSTATEs of a server that is stopping, starting or now a read-only standby: its connections are useless."""


def postgres_engine(url: URL | str, *begin: str, **options: Any) -> Engine:  # noqa: ANN401 - of create_engine
    """An engine whose transactions all begin with the statements `begin`. The driver's autocommit mode skips them."""
    url = make_url(url)
    connecting = {name: value for name, value in CONNECTING.items() if name not in url.query}
    connect_args = {"prepare_threshold": None, **connecting, **options.pop("connect_args", {})}
    # Parameters include tokens and addresses, which must not be logged with an error.
    engine = create_engine(url, hide_parameters=True, connect_args=connect_args, **options)

    def set_locally(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("; ".join(begin))

    if begin:
        event.listen(engine, "begin", set_locally)
    event.listen(engine, "handle_error", _leave_lost_server)
    return engine


def _leave_lost_server(context: ExceptionContext) -> None:
    """Empty the pool, so that the next transaction connects again and finds the server that has taken over."""
    if getattr(context.original_exception, "sqlstate", None) in LOST_SERVER:
        context.is_disconnect = True


def bounded(seconds: int) -> tuple[str, ...]:
    """The statements to begin transactions with, so that no statement takes longer than this; 0: no limit."""
    return (f"SET LOCAL statement_timeout = '{seconds}s'",) if seconds else ()


def is_cancelled(error: BaseException) -> bool:
    """Whether PostgreSQL gave a statement up because it took too long."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) == CANCELLED


def lost_reason(error: BaseException) -> str | None:
    """Why PostgreSQL cannot be reached, in one line; None for any other error, whose place in the code matters."""
    original = getattr(error, "orig", None)
    if type(original).__module__.partition(".")[0] != "psycopg":
        return None
    code = getattr(original, "sqlstate", None)
    is_lost = isinstance(error, OperationalError) and (code is None or code.startswith("08"))
    return " ".join(str(original).split()) if is_lost or code in LOST_SERVER else None


def is_writable(connection: Connection) -> bool:
    """Whether transactions may write here: False on a standby. SQLite has no such state."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(text("SELECT current_setting('transaction_read_only') = 'off'")).scalar_one())


def require_direct(connection: Connection, what: str) -> None:
    """Raise StorageUnavailable if connected through a pooler: `what` changes its session, which others would then get.

    A pooler gives its clients a made-up process id when they connect.
    """
    told = cast("Any", connection.connection.driver_connection).info.backend_pid
    if connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != told:
        raise StorageUnavailable(
            f"{what} needs the PostgreSQL server itself, but DATABASE_URL leads to a connection pooler: "
            "run this command with the server's own address in the environment variable DATABASE_URL"
        )


def weakness_of(connection: Connection) -> str | None:
    """Why PostgreSQL may lose a commit that it has reported; None if it cannot, and for SQLite."""
    if connection.dialect.name != "postgresql":
        return None
    is_synced = connection.execute(text("SELECT current_setting('fsync')")).scalar_one() == "on"
    return None if is_synced else "fsync is off on the PostgreSQL server"
