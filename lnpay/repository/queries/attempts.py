"""The attempts at a shop's order: each is an invoice."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, Connection, Select, bindparam, literal_column, select

from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.domain.text import is_storable
from lnpay.repository.records.invoices import read_invoice, read_invoices
from lnpay.repository.tables import invoices as t

MAX_ATTEMPTS = 100
"""How many attempts at an order are listed, newest first."""

_ORDER_ID: BindParameter[str] = bindparam("sought")

_ATTEMPTS = [
    select(t).where(way, t.c.strike_invoice_id.is_not(None)).order_by(t.c.id.desc()).limit(MAX_ATTEMPTS)
    for way in (t.c.order_id == _ORDER_ID, (t.c.correlation_id == _ORDER_ID) & t.c.order_id.is_(None))
]
"""By order_id, and by the same correlation_id: each has its own index."""

# If the state were a parameter, SQLite would plan the query again on each call, because one index is for this state.
_IS_SETTLED = t.c.state == literal_column(f"'{InvoiceState.SETTLED}'")

_SETTLED_OF_ANY = [way.where(_IS_SETTLED).limit(1) for way in _ATTEMPTS]
_SETTLED_ATTEMPTS = [way.where(t.c.checkout_options.is_(None)) for way in _SETTLED_OF_ANY]


class Attempts:
    """Queries about attempts at an order inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_order(self, order_id: str) -> list[Invoice]:
        """The issued invoices for a shop's order, newest first, at most MAX_ATTEMPTS. Accepts any text."""
        if not is_storable(order_id):
            return []
        found = [one for way in _ATTEMPTS for one in read_invoices(self._connection, way, {"sought": order_id})]
        return sorted(found, key=lambda one: one.id, reverse=True)[:MAX_ATTEMPTS]

    def settled(self, order_id: str) -> Invoice | None:
        """An invoice of a shop's order that was paid in time: the order is paid. None if there is none.

        Those of Greenfield clients do not count: several shops may use LNPay, and number their orders alike.
        """
        return self._first(_SETTLED_ATTEMPTS, order_id)

    def settled_of_any(self, order_id: str) -> Invoice | None:
        """The same, including those of Greenfield clients. If two shops number orders alike, another's may match."""
        return self._first(_SETTLED_OF_ANY, order_id)

    def _first(self, ways: list[Select[Any]], order_id: str) -> Invoice | None:
        for way in ways:
            settled = read_invoice(self._connection, way, {"sought": order_id})
            if settled is not None:
                return settled
        return None
