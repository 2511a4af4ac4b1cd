"""PostgreSQL only calls a commit done when it is on disk: set on every connection, and checked.

A refund's key must survive a power cut, not only a crash of the process. SQLite is set to `synchronous = FULL`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from lnpay.domain.errors import StorageUnavailable

DURABLE = ("on", "remote_apply")
"""What `synchronous_commit` may be. The other values report a commit before it is on this server's disk, or before it
is on that of a synchronous standby."""

_RAISE = (
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
)


def require_durable_commits(connection: Any, _record: object = None) -> None:  # noqa: ANN401 - psycopg's own
    """Raise `synchronous_commit` of a new connection to `on`, whatever server, database or role say."""
    connection.execute(_RAISE)
    connection.commit()


def check_durable_commits(connection: Connection) -> None:
    """Raise StorageUnavailable where PostgreSQL does not keep what `require_durable_commits` has set."""
    if connection.dialect.name == "postgresql" and _setting(connection, "synchronous_commit") not in DURABLE:
        raise StorageUnavailable(_NOT_KEPT)


def weakness_of(connection: Connection) -> str | None:
    """What lets PostgreSQL lose a commit that it has reported, in words; None when nothing does, and over SQLite."""
    if connection.dialect.name != "postgresql":
        return None
    if _setting(connection, "synchronous_commit") not in DURABLE:
        return _NOT_KEPT
    return None if _setting(connection, "fsync") == "on" else "fsync is off on the PostgreSQL server"


_NOT_KEPT = (
    "synchronous_commit of PostgreSQL is not on, although LNPay sets it on every connection: connect to the server "
    "itself, or have the connection pooler keep sessions"
)


def _setting(connection: Connection, name: str) -> str:
    return str(connection.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar_one())
