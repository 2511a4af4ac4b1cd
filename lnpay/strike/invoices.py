"""Strike's invoices, single and as pages of the list. One unreadable row does not hide the others."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

from lnpay.domain.errors import StrikeAmbiguous
from lnpay.domain.money import MSATS_PER_SAT
from lnpay.domain.text import is_printable_ascii
from lnpay.strike.reading import (
    ODD,
    check_not_cut,
    is_last_page,
    parse_time,
    read_items,
    read_msats_or_none,
    read_object,
    read_sats,
    read_text,
    read_total,
)

log = logging.getLogger(__name__)

MAX_ID_CHARACTERS = 64
"""Longer than any id of Strike's, and the width of our columns."""

PLAUSIBLE = (datetime(2015, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
"""Strike did not exist before 2015. A date outside this range is ignored."""

COMPLETED = "COMPLETED"
"""The state of a final transaction. Only final ones count as received and date a payment."""


class InvoiceStatus(StrEnum):
    """Strike's states of an invoice. PENDING: payment seen, but not final. REVERSED: the payment was taken back."""

    UNPAID = "UNPAID"
    PENDING = "PENDING"
    PAID = "PAID"
    CANCELLED = "CANCELLED"
    REVERSED = "REVERSED"


@dataclass(frozen=True)
class StrikeInvoice:
    """Strike's invoice. `amount_sats` is None if it is not priced in bitcoin.

    `paid_at` (the earliest completed transaction's own time) and `received_sats` are None unless transactions were
    requested and present.
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
    """One page of Strike's list, newest first if Strike orders it as requested.

    rows: their number, readable or not. invoices: the readable ones. ids: of every row that has one, whether
    or not the rest of it is readable. nameless: rows without an id; each may be any invoice. created_at: plausible
    creation times, in the page's order.
    skip: rows of the list before these. total: rows of the whole list; None if unknown.
    """

    rows: int
    invoices: list[StrikeInvoice]
    ids: list[str]
    nameless: int
    created_at: list[datetime]
    skip: int = 0
    total: int | None = None

    @property
    def unreadable(self) -> int:
        """How many rows are unreadable."""
        return self.rows - len(self.invoices)

    @property
    def is_last(self) -> bool:
        """Whether this is the last page."""
        return is_last_page(self.rows, self.skip, self.total)

    @property
    def next_skip(self) -> int:
        """Where the next page begins."""
        return self.skip + self.rows

    def reaches(self, since: datetime) -> bool:
        """Whether the list has been read back to `since`, by the majority of its dates: single dates may be wrong.

        In a list that is not newest first, newer invoices may follow.
        """
        older = sum(moment < since for moment in self.created_at)
        return older * 2 > len(self.created_at) and self._is_newest_first()

    def _is_newest_first(self) -> bool:
        """Whether the page is ordered newest first, although up to a third of the dates may be wrong."""
        rises = sum(later > one for one, later in pairwise(self.created_at))
        return rises * 3 <= len(self.created_at)


def read_invoice(value: object) -> StrikeInvoice:
    """Parse one invoice. Raises StrikeAmbiguous if it is unreadable."""
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
        raise StrikeAmbiguous("Strike's invoice is unreadable") from error


def read_page(value: object, skip: int) -> InvoicePage:
    """Parse one page of the list, read from `skip` on. Unreadable rows are logged.

    Raises StrikeAmbiguous if it is not a list, or is cut (see `check_not_cut`).
    """
    rows, total = read_items(value), read_total(value)
    check_not_cut(len(rows), skip, total)
    invoices = [one for one in map(_invoice_or_none, rows) if one is not None]
    if len(invoices) < len(rows):
        log.warning("strike's list has unreadable rows count=%d rows=%d", len(rows) - len(invoices), len(rows))
    ids = [one["invoiceId"] for one in rows if isinstance(one, dict) and isinstance(one.get("invoiceId"), str)]
    created_at = [moment for moment in map(_created_or_none, rows) if moment is not None]
    return InvoicePage(
        rows=len(rows),
        invoices=invoices,
        ids=[one for one in ids if _can_be_an_id(one)],
        nameless=len(rows) - len(ids),
        created_at=created_at,
        skip=skip,
        total=total,
    )


def _id(value: object) -> str:
    text = read_text(value)
    if not _can_be_an_id(text):
        raise ValueError("not an id")
    return text


def _can_be_an_id(text: str) -> bool:
    # Databases reject NUL characters and lone surrogates, and no id of ours has one.
    return is_printable_ascii(text) and 0 < len(text) <= MAX_ID_CHARACTERS


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
    return moment if PLAUSIBLE[0] <= moment <= PLAUSIBLE[1] else None


def _transactions(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """The completed transactions, without duplicates. Others are not final and may still fail."""
    value = raw.get("transactions")
    rows = value if isinstance(value, list) else []
    found: dict[str, dict[str, Any]] = {}
    for one in rows:
        if isinstance(one, dict) and _is_completed(one.get("state")):
            name = one.get("transactionId")
            found.setdefault(name if isinstance(name, str) and name else repr(one), one)
    return list(found.values())


def _is_completed(state: object) -> bool:
    # In any case: a payment without a known transaction would count as on time.
    return isinstance(state, str) and state.upper() == COMPLETED


def _earliest(transactions: list[dict[str, Any]]) -> datetime | None:
    """When the payment was made. `created` is when it reached Strike, `completed` when it became final.

    Raises ValueError if there are times but none is readable.
    """
    written = [moment for one in transactions if (moment := one.get("created") or one.get("completed"))]
    moments = [moment for moment in map(_time_or_none, written) if moment is not None]
    if written and not moments:
        raise ValueError("no readable payment time")
    return min(moments, default=None)


def _received(transactions: list[dict[str, Any]]) -> int | None:
    """The whole sats received in all; None unless every transaction is in bitcoin."""
    amounts = [read_msats_or_none(one.get("amountReceived")) for one in transactions]
    known = [amount for amount in amounts if amount is not None]
    return sum(known) // MSATS_PER_SAT if known and len(known) == len(amounts) else None
