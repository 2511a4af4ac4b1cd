"""Payments of a receive request, and what they make of its invoice. There may be several, of any amounts.

An invoice of Strike's is paid exactly, and once. A receive request may get less than was asked, more, or the whole
twice. The payments that came in time, in their order, make the invoice whole or not; everything else is owed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from lnpay.domain.money import CurrencyAmount, conversion_rate
from lnpay.domain.states import InvoiceState


class ReceiveWith(StrEnum):
    """How an invoice is paid at Strike."""

    INVOICE = "invoice"
    RECEIVE_REQUEST = "receive-request"


DUST_SATS = 10
"""So much of an overpayment is kept: a smaller refund costs more than it returns."""


@dataclass(frozen=True)
class Receive:
    """A final payment of one of our invoices. receive_id: Strike's id of it.

    kind: LIGHTNING, ONCHAIN or P2P (a Strike user). received, credited, conversion_rate: as Strike says it.
    owed_sats: what of it does not pay for the order.
    """

    id: int
    invoice_id: int
    receive_id: str
    kind: str
    amount_sats: int
    owed_sats: int
    received: CurrencyAmount
    credited: CurrencyAmount | None
    conversion_rate: Decimal | None
    payment_hash: str | None
    paid_at: datetime
    noticed_at: datetime


@dataclass(frozen=True)
class Judgement:
    """What payments make of an invoice. state: SETTLED, PAID_LATE, or None while the rest may still come.

    paid_at: when the payment was made that decided it.
    """

    state: InvoiceState | None
    paid_at: datetime


def judge(
    amount_sats: int, expires_at: datetime, receives: Sequence[Receive], *, is_over: bool, may_more_come: bool
) -> Judgement:
    """Judge at least one payment of an invoice that is not paid so far.

    is_over: its time to pay has ended. may_more_come: Strike shows a payment made in time that is not final.
    """
    in_order = _in_order(receives)
    paid_sats = 0
    for one in in_order:
        paid_sats += one.amount_sats if one.paid_at <= expires_at else 0
        if paid_sats >= amount_sats:
            return Judgement(InvoiceState.SETTLED, one.paid_at)
    last = in_order[-1].paid_at
    if may_more_come or not (is_over or last > expires_at):
        return Judgement(None, last)
    return Judgement(InvoiceState.PAID_LATE, last)


def beyond_price(price_sats: int, deadline: datetime | None, receives: Sequence[Receive]) -> dict[str, int]:
    """By receive_id, the sats of each payment that do not pay for the order.

    price_sats: what is paid for, by the first payments of those made by `deadline` (None: of all); 0: nothing was sold.
    """
    left, owed = price_sats, {}
    for one in _in_order(receives):
        is_in_time = deadline is None or one.paid_at <= deadline
        counted = min(one.amount_sats, left) if is_in_time else 0
        left -= counted
        owed[one.receive_id] = one.amount_sats - counted
    return owed


def _in_order(receives: Sequence[Receive]) -> list[Receive]:
    return sorted(receives, key=lambda one: (one.paid_at, one.receive_id))


@dataclass(frozen=True)
class ReceivedTotal:
    """What an invoice got in all. credited: None if Strike did not say it of each payment, in one currency."""

    sats: int
    credited: CurrencyAmount | None
    conversion_rate: Decimal | None


def total_of(receives: Sequence[Receive]) -> ReceivedTotal:
    """The sum of payments. The rate is Strike's own of a single one, and that of the sums of several."""
    sats = sum(one.amount_sats for one in receives)
    credits = [one.credited for one in receives if one.credited is not None]
    if len(credits) != len(receives) or len({one.currency for one in credits}) != 1:
        return ReceivedTotal(sats, None, None)
    credited = CurrencyAmount(sum((one.amount for one in credits), Decimal(0)), credits[0].currency)
    given = receives[0].conversion_rate if len(receives) == 1 else None
    return ReceivedTotal(sats, credited, given or conversion_rate(credited.amount, sats))
