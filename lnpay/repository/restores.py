"""When the database was replaced with a backup or a diverged copy: refunds of earlier orders are in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, true

from lnpay.domain.states import HoldCause
from lnpay.repository.sql import checked, read_one, read_rows
from lnpay.repository.tables import invoices
from lnpay.repository.tables import restores as t


@dataclass(frozen=True)
class Restore:
    """One moment at which another history of this database was lost, or was noticed.

    cause: RESTORED or FORKED. copied_at: when the backup was taken, where that is known.
    last_invoice_id: orders up to this number of ours may be known to the other history too.
    """

    noticed_at: datetime
    cause: HoldCause
    copied_at: datetime | None
    last_invoice_id: int


class Restores:
    """Queries about restores inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, noticed_at: datetime, cause: HoldCause, copied_at: datetime | None) -> Restore:
        """Record that another history may know every order that exists now."""
        last_id = self._connection.execute(select(func.coalesce(func.max(invoices.c.id), 0))).scalar_one()
        restore = Restore(noticed_at, cause, copied_at, last_id)
        values = {"noticed_at": noticed_at, "cause": cause, "copied_at": copied_at, "last_invoice_id": last_id}
        self._connection.execute(insert(t).values(values))
        return restore

    def covering(self, invoice_id: int) -> Restore | None:
        """The newest restore that covers an order; None if the order exists in this history only. Raises
        UnreadableRow.
        """
        return self._newest(t.c.last_invoice_id >= invoice_id)

    def newest(self) -> Restore | None:
        """The newest restore, if there was one."""
        return self._newest(true())

    def every(self) -> list[Restore]:
        """All restores, oldest first."""
        return read_rows(self._connection, t, select(t).order_by(t.c.id), _to_restore)

    def _newest(self, condition: ColumnElement[bool]) -> Restore | None:
        statement = select(t).where(condition).order_by(t.c.id.desc()).limit(1)
        return read_one(self._connection, t, statement, _to_restore)


def _to_restore(row: Row[Any]) -> Restore:
    return checked(Restore(row.noticed_at, HoldCause(row.cause), row.copied_at, row.last_invoice_id))
