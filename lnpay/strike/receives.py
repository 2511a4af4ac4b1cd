"""Strike's receives: single payments that a receive request got. One unreadable row does not hide the others."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from lnpay.domain.errors import StrikeAmbiguous
from lnpay.domain.money import BTC, CurrencyAmount, parse_decimal
from lnpay.strike.invoices import MAX_ID_CHARACTERS, PLAUSIBLE
from lnpay.strike.reading import (
    ODD,
    check_not_cut,
    is_last_page,
    parse_time,
    read_items,
    read_object,
    read_sats,
    read_text,
    read_total,
)

log = logging.getLogger(__name__)

MAX_WORD_CHARACTERS = 20
"""Longer than any type that Strike uses, and the width of our column."""


class ReceiveStatus(StrEnum):
    """Strike's states of a receive. PENDING: seen, not final."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"


@dataclass(frozen=True)
class StrikeReceive:
    """One payment of a receive request.

    kind: LIGHTNING, ONCHAIN, P2P (a Strike user paid), or a new kind.
    received: what the payer paid, which is bitcoin unless a Strike user pays from a balance in another currency.
    credited: the amount in the request's currency, only if it is completed. conversion_rate: Strike's.
    paid_at: when it reached Strike.
    """

    receive_id: str
    request_id: str
    kind: str
    status: ReceiveStatus
    received: CurrencyAmount
    paid_at: datetime
    credited: CurrencyAmount | None
    conversion_rate: Decimal | None
    payment_hash: str | None


@dataclass(frozen=True)
class ReceivePage:
    """One page of receives.

    rows: their number, readable or not. unreadable_ids: the requests of unreadable rows. nameless: unreadable rows that
    name no request; each may belong to any. skip: the rows before them. total: of the whole list; None if unknown.
    """

    rows: int
    receives: list[StrikeReceive]
    unreadable_ids: frozenset[str]
    nameless: int
    skip: int = 0
    total: int | None = None

    @property
    def unreadable(self) -> int:
        """How many rows are unreadable."""
        return self.rows - len(self.receives)

    @property
    def is_last(self) -> bool:
        """Whether this is the last page."""
        return is_last_page(self.rows, self.skip, self.total)

    @property
    def next_skip(self) -> int:
        """Where the next page begins."""
        return self.skip + self.rows

    @property
    def request_ids(self) -> frozenset[str]:
        """The requests that this page names."""
        return self.unreadable_ids | {one.request_id for one in self.receives}


def read_receive_page(value: object, skip: int = 0) -> ReceivePage:
    """Parse a list of receives, read from `skip` on. Raises StrikeAmbiguous if it is none or cut (`check_not_cut`)."""
    rows, total = read_items(value), read_total(value)
    check_not_cut(len(rows), skip, total)
    receives: list[StrikeReceive] = []
    unreadable_ids: set[str] = set()
    nameless = 0
    for row in rows:
        try:
            receives.append(_read_receive(row))
        except (*ODD, StrikeAmbiguous):
            named = row.get("receiveRequestId") if isinstance(row, dict) else None
            if isinstance(named, str):
                unreadable_ids.add(named)
            else:
                nameless += 1
    if len(receives) < len(rows):
        log.warning("strike's list has unreadable receives count=%d rows=%d", len(rows) - len(receives), len(rows))
    return ReceivePage(len(rows), receives, frozenset(unreadable_ids), nameless, skip, total)


def _read_receive(value: object) -> StrikeReceive:
    raw = read_object(value)
    return StrikeReceive(
        receive_id=read_id(raw["receiveId"]),
        request_id=read_id(raw["receiveRequestId"]),
        kind=read_text(raw["type"])[:MAX_WORD_CHARACTERS],
        status=ReceiveStatus(raw["state"]),
        received=_amount(raw["amountReceived"]),
        paid_at=_paid_at(raw),
        credited=_amount_or_none(raw.get("amountCredited")),
        conversion_rate=_rate(raw.get("conversionRate")),
        payment_hash=_payment_hash(raw.get("lightning")),
    )


def _paid_at(raw: dict[str, Any]) -> datetime:
    moment = parse_time(raw.get("created") or raw.get("completed"))
    # It decides between a sale and a refund, so an impossible time must decide nothing.
    if not PLAUSIBLE[0] <= moment <= PLAUSIBLE[1]:
        raise ValueError("an implausible time")
    return moment


def read_id(value: object) -> str:
    """An id of Strike's. Raises TypeError or ValueError."""
    text = read_text(value)
    # Databases reject NUL characters and lone surrogates, and no id of ours has one.
    if not (text.isascii() and text.isprintable() and len(text) <= MAX_ID_CHARACTERS):
        raise ValueError("not an id")
    return text


def _amount(money: object) -> CurrencyAmount:
    """A positive amount. Raises one of ODD, or StrikeAmbiguous."""
    raw = read_object(money)
    currency = read_text(raw["currency"])[:MAX_WORD_CHARACTERS]
    # At most the precision of a millisat, and at most all existing bitcoin.
    is_nothing = read_sats(money) == 0 if currency == BTC else not parse_decimal(read_text(raw["amount"]))
    if is_nothing:
        raise ValueError("nothing was received")
    return CurrencyAmount(parse_decimal(read_text(raw["amount"])), currency)


def _amount_or_none(money: object) -> CurrencyAmount | None:
    """An amount that only reports need: the payment counts without it."""
    try:
        return _amount(money)
    except (*ODD, StrikeAmbiguous):
        return None


def _rate(rate: object) -> Decimal | None:
    try:
        return parse_decimal(read_text(read_object(rate)["amount"]))
    except (*ODD, StrikeAmbiguous):
        return None


def _payment_hash(lightning: object) -> str | None:
    """Only shown, to help the operator find a payment. Nothing is matched by it: a Strike user's payment has none."""
    found = lightning.get("paymentHash") if isinstance(lightning, dict) else None
    return found if isinstance(found, str) and found.isascii() and found.isalnum() and len(found) == 64 else None
