"""Payments of receive requests, and which requests to ask Strike about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select, update

from lnpay.domain.model import Invoice
from lnpay.domain.money import CurrencyAmount
from lnpay.domain.receives import Receive, ReceivedTotal, ReceiveWith, whole_sats
from lnpay.domain.states import InvoiceState
from lnpay.repository.records.invoices import read_invoice, to_amount, to_checked
from lnpay.repository.sql import checked, insert_unless_there, read_every, read_rows
from lnpay.repository.tables import invoices, receives

i, r = invoices.c, receives.c

_IS_REQUEST = i.receive_with == ReceiveWith.RECEIVE_REQUEST


class Receives:
    """Queries about payments of receive requests inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock_invoice(self, request_id: str) -> Invoice | None:
        """The invoice that a receive request pays. Until the commit no other transaction judges its payments."""
        statement = select(invoices).where(i.strike_invoice_id == request_id, _IS_REQUEST).with_for_update()
        return read_invoice(self._connection, statement)

    def add(
        self,
        invoice_id: int,
        receive_id: str,
        *,
        kind: str,
        amount_sats: int,
        received: CurrencyAmount,
        credited: CurrencyAmount | None,
        conversion_rate: Decimal | None,
        payment_hash: str | None,
        paid_at: datetime,
        noticed_at: datetime,
    ) -> bool:
        """Store a final payment. False if it is stored already."""
        values = {
            "invoice_id": invoice_id,
            "receive_id": receive_id,
            "kind": kind,
            "amount_sats": amount_sats,
            "received_amount": received.amount,
            "received_currency": received.currency,
            "credited_amount": None if credited is None else credited.amount,
            "credited_currency": None if credited is None else credited.currency,
            "conversion_rate": conversion_rate,
            "payment_hash": payment_hash,
            "paid_at": paid_at,
            "noticed_at": noticed_at,
        }
        return insert_unless_there(self._connection, receives, values) is not None

    def of(self, invoice_id: int) -> list[Receive]:
        """The payments of an invoice, in the order in which they were noticed; see `whole_sats`."""
        statement = select(receives).where(r.invoice_id == invoice_id).order_by(r.id)
        return whole_sats(read_rows(self._connection, receives, statement, _to_receive))

    def every_of(self, invoice_id: int) -> list[Receive]:
        """The same, for decisions about money: a skipped payment would change the refund. Raises UnreadableRow."""
        statement = select(receives).where(r.invoice_id == invoice_id).order_by(r.id)
        return whole_sats(read_every(self._connection, receives, statement, _to_receive))

    def ids_of(self, invoice_id: int) -> set[str]:
        """Strike's ids of the payments of an invoice, also of those that cannot be read."""
        return set(self._connection.execute(select(r.receive_id).where(r.invoice_id == invoice_id)).scalars())

    def is_known(self, receive_id: str) -> bool:
        """Whether this payment is stored. Accepts any text."""
        if not (receive_id.isascii() and receive_id.isprintable()):
            return False
        statement = select(r.id).where(r.receive_id == receive_id)
        return self._connection.execute(statement).scalar() is not None

    def owe(self, owed: Mapping[str, int]) -> None:
        """Store how much of each payment is owed back."""
        for receive_id, sats in owed.items():
            self._connection.execute(update(receives).where(r.receive_id == receive_id).values(owed_sats=sats))

    def store_total(self, invoice_id: int, total: ReceivedTotal) -> None:
        """Store the total that a paid invoice has received."""
        credited = total.credited
        values = {
            "received_sats": total.sats,
            "credited_amount": None if credited is None else credited.amount,
            "credited_currency": None if credited is None else credited.currency,
            "conversion_rate": total.conversion_rate,
        }
        self._connection.execute(update(invoices).where(i.id == invoice_id, i.paid_at.is_not(None)).values(values))

    def end_deadline(self, invoice_id: int, at: datetime) -> None:
        """Make every later payment of an invoice late."""
        self._connection.execute(update(invoices).where(i.id == invoice_id, i.expires_at > at).values(expires_at=at))

    # Which requests to ask about.

    def requests_in(self, states: Collection[InvoiceState], limit: int) -> list[str]:
        """Requests of invoices in any of `states`, least recently checked first."""
        return self._oldest(_IN_STATE, [{"sought": state} for state in states], limit)

    def requests_payable_since(self, states: Collection[InvoiceState], since: datetime, limit: int) -> list[str]:
        """The same, of invoices that could be paid after `since`."""
        return self._oldest(_PAYABLE_SINCE, [{"sought": state, "since": since} for state in states], limit)

    def requests_unchecked_since_end(self, states: Collection[InvoiceState], since: datetime, limit: int) -> list[str]:
        """The same, but only those that were last checked while they could still be paid."""
        return self._oldest(_UNCHECKED_SINCE_END, [{"sought": state, "since": since} for state in states], limit)

    def requests_to_end(self, expire_before: datetime, lapse_before: datetime, limit: int) -> list[str]:
        """Requests of invoices that are due to expire or to lapse."""
        found = self._read(_TO_EXPIRE, {"before": expire_before, "most": limit})
        found += self._read(_TO_LAPSE, {"before": lapse_before, "most": limit})
        return _first(found, limit)

    def _oldest(self, statement: Select[Any], ways: list[dict[str, object]], limit: int) -> list[str]:
        # One query per state, so that each uses the index.
        found = [one for way in ways for one in self._read(statement, {**way, "most": limit})]
        return _first(found, limit)

    def _read(self, statement: Select[Any], sought: dict[str, object]) -> list[tuple[bool, datetime, str]]:
        return read_rows(self._connection, invoices, statement, to_checked, sought)

    def newest_paid_requests(self, limit: int) -> list[str]:
        """The requests of the newest known payments: Strike must list a payment of each."""
        statement = (
            select(i.strike_invoice_id)
            .where(i.id.in_(select(r.invoice_id).order_by(r.id.desc()).limit(10 * limit)))
            .order_by(i.id.desc())
            .limit(limit)
        )
        return list(self._connection.execute(statement).scalars())

    def read_through(self, newest: int) -> None:
        """Read the newest payments, to find unreadable ones."""
        read_rows(self._connection, receives, select(receives).order_by(r.id.desc()).limit(newest), _to_receive)


_REQUESTS = (
    select(i.strike_invoice_id, i.checked_at)
    .where(_IS_REQUEST, i.strike_invoice_id.is_not(None))
    .order_by(i.checked_at.nulls_first(), i.id)
    .limit(bindparam("most"))
)
"""Receive requests, least recently checked first."""

_IN_STATE = _REQUESTS.where(i.state == bindparam("sought"))

_PAYABLE_SINCE = _IN_STATE.where(i.payable_until > bindparam("since"))

_UNCHECKED_SINCE_END = _PAYABLE_SINCE.where(i.checked_at.is_(None) | (i.checked_at < i.payable_until))

_TO_EXPIRE = _REQUESTS.where(i.state == InvoiceState.UNPAID, i.expires_at < bindparam("before"))

_TO_LAPSE = _REQUESTS.where(i.state == InvoiceState.EXPIRED, i.payable_until < bindparam("before"))


def _first(found: list[tuple[bool, datetime, str]], limit: int) -> list[str]:
    return [request_id for _, _, request_id in sorted(found)[:limit]]


def _to_receive(row: Row[Any]) -> Receive:
    received = to_amount(row.received_amount, row.received_currency)
    if received is None:
        raise TypeError("a payment without an amount")
    one = Receive(
        row.id, row.invoice_id, row.receive_id, row.kind, row.amount_sats, row.owed_sats, received,
        to_amount(row.credited_amount, row.credited_currency), row.conversion_rate, row.payment_hash,
        row.paid_at, row.noticed_at,
    )  # fmt: skip
    return checked(one)
