"""Failed logins, shared by all processes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from lnpay.repository.sql import insert_into, read_rows, upsert
from lnpay.repository.tables import login_tries as t


class Logins:
    """Queries about logins inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tries(self, who: str, now: datetime) -> tuple[int, datetime]:
        """How many failed attempts `who` has made, and when the next is allowed. Locks the row until the commit."""
        new = {"who": who, "wrong": 0, "free_at": now}
        self._connection.execute(insert_into(self._connection.dialect.name, t).values(new).on_conflict_do_nothing())
        statement = select(t.c.wrong, t.c.free_at).where(t.c.who == who).with_for_update()
        found = read_rows(self._connection, t, statement, _to_tries)
        return found[0] if found else (0, now)

    def set_tries(self, who: str, wrong: int, free_at: datetime) -> None:
        """Store the number of failed attempts of `who`."""
        change = {"wrong": wrong, "free_at": free_at}
        self._connection.execute(upsert(self._connection, t, {"who": who}, change, change))

    def forget(self, who: str) -> None:
        """Clear the failed attempts of `who` after a successful login."""
        self._connection.execute(delete(t).where(t.c.who == who))

    def forget_before(self, moment: datetime) -> None:
        """Delete entries without an attempt since `moment`."""
        self._connection.execute(delete(t).where(t.c.free_at < moment))


def _to_tries(row: Row[Any]) -> tuple[int, datetime]:
    if type(row.wrong) is not int or not isinstance(row.free_at, datetime):
        raise TypeError("not a count and a time")
    return row.wrong, row.free_at
