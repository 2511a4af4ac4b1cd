"""Rows of heartbeats: each worker's last pass, on each host."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, delete, func, or_, select

from lnpay.domain.model import Heartbeat
from lnpay.repository.sql import checked, read_rows, upsert
from lnpay.repository.tables import heartbeats, host_heartbeats

HOST_FORGOTTEN_AFTER = timedelta(days=1)
"""A host on which no worker has made a pass for this long counts as switched off, if another host is active."""

WORKER_FORGOTTEN_AFTER = timedelta(days=7)
"""The same for one worker of an active host: it may have died, so it is reported for longer."""

_COLUMNS = ("worker", "ended_at", "trouble", "troubled_since", "unreadable")


class Heartbeats:
    """Queries about workers inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, heartbeat: Heartbeat) -> None:
        """Record a worker's last pass, and since when all its passes have been in trouble.

        Forgets the same worker on hosts that have been silent for long. A worker that makes no pass anywhere is never
        forgotten.
        """
        self._store(heartbeats, {"worker": heartbeat.worker}, heartbeat)
        if heartbeat.host:
            self._store(host_heartbeats, {"worker": heartbeat.worker, "host": heartbeat.host}, heartbeat)
        self._forget_others(heartbeat)

    def _store(self, table: Table, key: dict[str, Any], heartbeat: Heartbeat) -> None:
        since = None if heartbeat.trouble is None else heartbeat.ended_at
        new = {
            "ended_at": heartbeat.ended_at,
            "trouble": heartbeat.trouble,
            "troubled_since": since,
            "unreadable": heartbeat.unreadable,
        }
        change = {**new, "troubled_since": None if since is None else func.coalesce(table.c.troubled_since, since)}
        self._connection.execute(upsert(self._connection, table, key, new, change))

    def _forget_others(self, heartbeat: Heartbeat) -> None:
        c, other = host_heartbeats.c, host_heartbeats.alias()
        silent_since = heartbeat.ended_at - HOST_FORGOTTEN_AFTER
        is_alive = select(other.c.id).where(other.c.host == c.host, other.c.ended_at >= silent_since).exists()
        is_forgotten = or_(
            c.ended_at < heartbeat.ended_at - WORKER_FORGOTTEN_AFTER, and_(c.ended_at < silent_since, ~is_alive)
        )
        others = and_(c.worker == heartbeat.worker, c.host != heartbeat.host)
        self._connection.execute(delete(host_heartbeats).where(others, is_forgotten))

    def every(self) -> list[Heartbeat]:
        """The last pass of each worker on each host.

        One without a host is the last pass on any host that has no name, or of a version that knew none. Every pass
        counts as that too, so it is left out unless it is later than those of all hosts with a name.
        """
        t, h = heartbeats, host_heartbeats
        anywhere = read_rows(self._connection, t, select(*(t.c[name] for name in _COLUMNS)), _to_heartbeat)
        columns = (h.c[name] for name in (*_COLUMNS, "host"))
        found = read_rows(self._connection, h, select(*columns), _to_heartbeat)
        named = [(one.worker, one.ended_at) for one in found]
        found += [one for one in anywhere if not any(one.worker == w and one.ended_at <= at for w, at in named)]
        return sorted(found, key=lambda one: (one.worker, one.host))


def _to_heartbeat(row: Row[Any]) -> Heartbeat:
    return checked(Heartbeat(**row._mapping))
