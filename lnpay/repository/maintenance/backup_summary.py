"""Summarise what a database holds, without changing it: any version of LNPay's tables, SQLite or PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, inspect, select, table

from lnpay.domain.errors import InvalidRequest
from lnpay.repository.invoices import Invoices
from lnpay.repository.limits import COPIED, Limits

COUNTED = ("invoices", "refunds", "refund_attempts", "deliveries")
"""Tables of history. They only grow, so a copy with fewer rows has lost some."""


@dataclass(frozen=True)
class Contents:
    """What is in a database. rows: of each table of history.

    newest_invoice_at: None if there is no invoice. copied_at: set in backups and in databases restored from them.
    """

    schema: str
    rows: dict[str, int]
    newest_invoice_at: datetime | None
    copied_at: datetime | None


def read_contents(connection: Connection) -> Contents:
    """Summarise a database. Raises InvalidRequest if it is not an LNPay database."""
    version = MigrationContext.configure(connection).get_current_revision()
    if version is None or not {*COUNTED, "milestones"} <= set(inspect(connection).get_table_names()):
        raise InvalidRequest("this is not an LNPay database: its tables are missing")
    return Contents(
        version,
        {name: connection.execute(select(func.count()).select_from(table(name))).scalar_one() for name in COUNTED},
        Invoices(connection).newest_created_at(),
        Limits(connection).milestone(COPIED),
    )
