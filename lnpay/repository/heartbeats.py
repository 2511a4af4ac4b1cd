"""When each worker last made a pass."""

from __future__ import annotations

from sqlalchemy import Connection, select

from lnpay.model import Heartbeat
from lnpay.repository.rows import upsert
from lnpay.repository.tables import heartbeats as t


class Heartbeats:
    """Queries about workers inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, heartbeat: Heartbeat) -> None:
        """Remember the last pass of a worker."""
        change = {"ended_at": heartbeat.ended_at, "trouble": heartbeat.trouble}
        self._connection.execute(upsert(self._connection, t, {"worker": heartbeat.worker}, change, change))

    def every(self) -> list[Heartbeat]:
        """The last pass of each worker that ever made one."""
        statement = select(t.c.worker, t.c.ended_at, t.c.trouble).order_by(t.c.worker)
        return [Heartbeat(*row) for row in self._connection.execute(statement)]
