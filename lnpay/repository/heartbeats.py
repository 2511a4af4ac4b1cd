"""Rows of heartbeats: each worker's last pass."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select

from lnpay.domain.model import Heartbeat
from lnpay.repository.sql import checked, read_rows, upsert
from lnpay.repository.tables import heartbeats as t


class Heartbeats:
    """Queries about workers inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, heartbeat: Heartbeat) -> None:
        """Record a worker's last pass, and since when all its passes have been in trouble."""
        since = None if heartbeat.trouble is None else heartbeat.ended_at
        new = {
            "ended_at": heartbeat.ended_at,
            "trouble": heartbeat.trouble,
            "troubled_since": since,
            "unreadable": heartbeat.unreadable,
        }
        change = {**new, "troubled_since": None if since is None else func.coalesce(t.c.troubled_since, since)}
        self._connection.execute(upsert(self._connection, t, {"worker": heartbeat.worker}, new, change))

    def every(self) -> list[Heartbeat]:
        """The last pass of each worker that ever made one."""
        return read_rows(self._connection, t, select(t).order_by(t.c.worker), _to_heartbeat)


def _to_heartbeat(row: Row[Any]) -> Heartbeat:
    return checked(Heartbeat(**row._mapping))
