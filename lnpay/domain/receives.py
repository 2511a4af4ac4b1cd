"""The payments of a receive request, and the state that they put its invoice in.

A Strike invoice is paid once, with the exact amount. A receive request may get several payments of any amount: less
than was asked for, more, or the full amount twice. The payments made in time, in order, either cover the price or do
not; everything else is owed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from lnpay.domain.money import MSATS_PER_SAT, CurrencyAmount, conversion_rate, sats_to_msats
from lnpay.domain.states import InvoiceState


class ReceiveWith(StrEnum):
    """How an invoice is paid at Strike."""

    INVOICE = "invoice"
    RECEIVE_REQUEST = "receive-request"


DUST_SATS = 10
"""An overpayment of up to this many sats is kept: refunding it would cost more than it returns."""


@dataclass(frozen=True)
class Receive:
    """A final payment of one of our invoices. receive_id: Strike's id.

    kind: LIGHTNING, ONCHAIN or P2P (a Strike user). received, credited, conversion_rate: as Strike reports them.
    owed_sats: the part that does not pay for the order.
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
    """The result of judging an invoice's payments. state: SETTLED, PAID_LATE, or None while the rest may still come.

    paid_at: the time of the payment that decided it.
    """

    state: InvoiceState | None
    paid_at: datetime


def judge(
    amount_sats: int, expires_at: datetime, receives: Sequence[Receive], *, is_over: bool, may_more_come: bool
) -> Judgement:
    """Judge one or more payments of an invoice that is not yet paid.

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
    """For each receive_id, the sats that do not pay for the order.

    price_sats: the price, which the earliest payments made by `deadline` (None: at any time) go towards; 0: nothing was
    sold.
    """
    left, owed = price_sats, {}
    for one in _in_order(receives):
        is_in_time = deadline is None or one.paid_at <= deadline
        counted = min(one.amount_sats, left) if is_in_time else 0
        left -= counted
        owed[one.receive_id] = one.amount_sats - counted
    return owed


def whole_sats(receives: Sequence[Receive]) -> list[Receive]:
    """The same payments, with amounts that add up to the whole sats of what was received in all.

    Each is stored with a fraction of a sat rounded up; a thousand payments of a thousandth of a sat are one sat.
    """
    counted, msats = [], 0
    for one in receives:
        before, msats = msats, msats + _msats(one)
        counted.append(replace(one, amount_sats=msats // MSATS_PER_SAT - before // MSATS_PER_SAT))
    return counted


def _msats(one: Receive) -> int:
    """What a payment counts as, exactly if it was made in bitcoin."""
    msats = one.received.msats
    return sats_to_msats(one.amount_sats) if msats is None else msats


def _in_order(receives: Sequence[Receive]) -> list[Receive]:
    return sorted(receives, key=lambda one: (one.paid_at, one.receive_id))


@dataclass(frozen=True)
class ReceivedTotal:
    """The total received for an invoice. credited: None unless Strike reported it for every payment, in one
    currency.
    """

    sats: int
    credited: CurrencyAmount | None
    conversion_rate: Decimal | None


def total_of(receives: Sequence[Receive]) -> ReceivedTotal:
    """The sum of payments. The rate is Strike's own for a single payment, and computed from the sums for several."""
    sats = sum(one.amount_sats for one in receives)
    credits = [one.credited for one in receives if one.credited is not None]
    if len(credits) != len(receives) or len({one.currency for one in credits}) != 1:
        return ReceivedTotal(sats, None, None)
    credited = CurrencyAmount(sum((one.amount for one in credits), Decimal(0)), credits[0].currency)
    given = receives[0].conversion_rate if len(receives) == 1 else None
    return ReceivedTotal(sats, credited, given or conversion_rate(credited.amount, sats))
