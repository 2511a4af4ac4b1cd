"""Strike's invoices, alone and in pages of its list. One row that cannot be read does not hide the others."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from lnpay.domain.errors import StrikeAmbiguous
from lnpay.strike.reading import (
    ODD,
    parse_time,
    read_items,
    read_object,
    read_sats,
    read_sats_or_none,
    read_text,
)

log = logging.getLogger(__name__)

PAGE_SIZE = 100
"""The most Strike puts on one page."""

MAX_ID_CHARACTERS = 64
"""Longer than any id of Strike's, and all that a column here has room for."""

_PLAUSIBLE = (datetime(2015, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
"""Nothing was made or paid at Strike before there was a Strike. A date outside says nothing."""

COMPLETED = "COMPLETED"
"""The state of a transaction that is final. Only these date a payment, and are received."""


class InvoiceStatus(StrEnum):
    """Strike's states of an invoice. PENDING: money was seen, but it is not final. REVERSED: it was taken back."""

    UNPAID = "UNPAID"
    PENDING = "PENDING"
    PAID = "PAID"
    CANCELLED = "CANCELLED"
    REVERSED = "REVERSED"


@dataclass(frozen=True)
class StrikeInvoice:
    """Strike's invoice. `amount_sats` is None when it does not ask for bitcoin.

    `paid_at` (the earliest completed transaction's own time) and `received_sats` are None unless transactions were
    asked for and are there.
    """

    invoice_id: str
    status: InvoiceStatus
    amount_sats: int | None
    created_at: datetime
    paid_at: datetime | None
    received_sats: int | None
    raw: dict[str, Any]


@dataclass(frozen=True)
class InvoicePage:
    """One page of Strike's list, the newest first.

    rows: how many it has, readable or not. invoices: those that can be read. ids: of every row that shows one, whether
    or not the rest of it can be read. nameless: rows without an id; each may be any invoice. created_at: plausible
    times of creation, in the page's order.
    """

    rows: int
    invoices: list[StrikeInvoice]
    ids: list[str]
    nameless: int
    created_at: list[datetime]

    @property
    def unreadable(self) -> int:
        """How many rows cannot be read."""
        return self.rows - len(self.invoices)

    @property
    def is_last(self) -> bool:
        """Whether nothing follows it."""
        return self.rows < PAGE_SIZE

    def reaches(self, since: datetime) -> bool:
        """Whether the list is read back to `since`, by most of the dates on it: single ones may be odd."""
        older = sum(moment < since for moment in self.created_at)
        return older * 2 > len(self.created_at)


def read_invoice(value: object) -> StrikeInvoice:
    """One invoice. Raises StrikeAmbiguous when it cannot be read."""
    raw = read_object(value)
    try:
        transactions = _transactions(raw)
        return StrikeInvoice(
            invoice_id=_id(raw["invoiceId"]),
            status=InvoiceStatus(raw["state"]),
            amount_sats=read_sats(raw.get("amount")),
            created_at=parse_time(raw["created"]),
            paid_at=_earliest(transactions),
            received_sats=_received(transactions),
            raw=raw,
        )
    except ODD as error:
        raise StrikeAmbiguous("Strike's invoice cannot be read") from error


def read_page(value: object) -> InvoicePage:
    """One page of the list. Rows that cannot be read are logged. Raises StrikeAmbiguous when it is no list."""
    rows = read_items(value)
    invoices = [one for one in map(_invoice_or_none, rows) if one is not None]
    if len(invoices) < len(rows):
        log.warning("strike's list has rows that cannot be read count=%d rows=%d", len(rows) - len(invoices), len(rows))
    ids = [one["invoiceId"] for one in rows if isinstance(one, dict) and isinstance(one.get("invoiceId"), str)]
    created_at = [moment for moment in map(_created_or_none, rows) if moment is not None]
    return InvoicePage(
        len(rows), invoices, [one for one in ids if _can_be_an_id(one)], len(rows) - len(ids), created_at
    )


def _id(value: object) -> str:
    text = read_text(value)
    if not _can_be_an_id(text):
        raise ValueError("not an id")
    return text


def _can_be_an_id(text: str) -> bool:
    # A database refuses a NUL or half a character with an error, and no id of ours has one.
    return text.isascii() and text.isprintable() and 0 < len(text) <= MAX_ID_CHARACTERS


def _invoice_or_none(row: object) -> StrikeInvoice | None:
    try:
        return read_invoice(row)
    except StrikeAmbiguous:
        return None


def _created_or_none(row: object) -> datetime | None:
    return _time_or_none(row.get("created")) if isinstance(row, dict) else None


def _time_or_none(value: object) -> datetime | None:
    try:
        moment = parse_time(value)
    except ODD:
        return None
    return moment if _PLAUSIBLE[0] <= moment <= _PLAUSIBLE[1] else None


def _transactions(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """The completed transactions. Others are not final: they may come to nothing."""
    value = raw.get("transactions")
    found = value if isinstance(value, list) else []
    return [one for one in found if isinstance(one, dict) and one.get("state") == COMPLETED]


def _earliest(transactions: list[dict[str, Any]]) -> datetime | None:
    """When the payment was made. `created` is when it reached Strike, `completed` when it was final.

    Raises ValueError when there are times and none of them can be read.
    """
    written = [moment for one in transactions if (moment := one.get("created") or one.get("completed"))]
    moments = [moment for moment in map(_time_or_none, written) if moment is not None]
    if written and not moments:
        raise ValueError("no time of payment that can be read")
    return min(moments, default=None)


def _received(transactions: list[dict[str, Any]]) -> int | None:
    """Sats received; None unless every transaction is in bitcoin."""
    amounts = [read_sats_or_none(one.get("amountReceived")) for one in transactions]
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known and len(known) == len(amounts) else None
