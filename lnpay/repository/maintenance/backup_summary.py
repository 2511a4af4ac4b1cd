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
"""The tables that are history: they only grow, and a copy that has fewer rows has lost some."""


@dataclass(frozen=True)
class Contents:
    """What is in a database. rows: of each table of history.

    newest_invoice_at: None when there is no invoice. copied_at: set in a backup, and in what was restored from one.
    """

    schema: str
    rows: dict[str, int]
    newest_invoice_at: datetime | None
    copied_at: datetime | None


def read_contents(connection: Connection) -> Contents:
    """Tell what a database holds. Raises InvalidRequest when it is none of LNPay."""
    version = MigrationContext.configure(connection).get_current_revision()
    if version is None or not {*COUNTED, "milestones"} <= set(inspect(connection).get_table_names()):
        raise InvalidRequest("this is no database of LNPay: its tables are missing")
    return Contents(
        version,
        {name: connection.execute(select(func.count()).select_from(table(name))).scalar_one() for name in COUNTED},
        Invoices(connection).newest_created_at(),
        Limits(connection).milestone(COPIED),
    )
