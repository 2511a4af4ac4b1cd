"""The states of invoice, refund and delivery, and every permitted move. Nothing else decides about moves.

docs/states.md shows the tables below. A move that is not here raises `ForbiddenMove`, a bug of ours: what
the world may do to us (two workers, a repeated webhook) is answered by the row count of a conditional update instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar


class InvoiceState(StrEnum):
    """Where an invoice stands. The time of the payment decides, not the time at which we noticed it."""

    UNPAID = "unpaid"  # payable until expires_at
    SETTLED = "settled"  # paid in time: a delivery is owed
    EXPIRED = "expired"  # no payment seen in time: still watched
    PAID_LATE = "paid_late"  # paid after expires_at: a refund is owed
    LAPSED = "lapsed"  # no payment came, and the payment request has ended: not polled, but a payment still counts
    CANCELLED = "cancelled"  # called off at Strike before a payment was known: not polled, but a payment still counts


class RefundState(StrEnum):
    """Where money owed back stands. `IN_FLIGHT` is left only on evidence from Strike."""

    REQUESTED = "requested"  # owed; the idempotency key is stored
    QUOTED = "quoted"  # Strike's payment quote is stored; nothing has moved
    IN_FLIGHT = "in_flight"  # execution was started: may or may not have been sent
    SENT = "sent"  # Strike says it is paid
    FAILED = "failed"  # Strike says it was not paid; tried again with a new key
    NEEDS_ADDRESS = "needs_address"  # there is no address, or it was refused
    HELD = "held"  # a limit, or a restore, wants a person to approve it


class DeliveryState(StrEnum):
    """Where one message owed to the shop stands."""

    PENDING = "pending"  # to be sent, or to be sent again
    DELIVERED = "delivered"  # the shop answered 2xx
    ABANDONED = "abandoned"  # refused for good (410), or for more than three days
    WITHDRAWN = "withdrawn"  # no longer true: an expiry of an order that was paid in time after all


class EndpointForm(StrEnum):
    """How a webhook endpoint of the shop expects its messages."""

    STANDARD = "standard"  # LNPay's own messages, signed as Standard Webhooks
    BTCPAY = "btcpay"  # BTCPay Server's events, for shop plugins that speak its Greenfield API


class EndpointSetter(StrEnum):
    """Who chose the address of a webhook endpoint. A key's address is kept out of private networks."""

    OPERATOR = "operator"
    KEY = "key"


class HoldCause(StrEnum):
    """Why a held refund waits for a person."""

    REFUNDS_OFF = "refunds_off"  # REFUNDS_ENABLED is off
    MAX_SATS = "max_sats"  # it is above REFUND_MAX_SATS
    DAILY_MAX_SATS = "daily_max_sats"  # REFUND_DAILY_MAX_SATS is reached
    RESTORED = "restored"  # it may have been sent by the part of the history that a restore lost
    REVERSED = "reversed"  # Strike has taken the payment back
    FORKED = "forked"  # another copy of this database may have sent it


class Closer(StrEnum):
    """On whose word a refund counts as sent."""

    STRIKE = "strike"
    INFERRED = "inferred"  # Strike says that it was processed before, and names no payment
    OPERATOR = "operator"


class RefundStep(StrEnum):
    """What was being done when a line was added to a refund's history."""

    QUOTE = "quote"
    EXECUTE = "execute"
    LOOK = "look"
    WEBHOOK = "webhook"
    HOLD = "hold"
    RESTORE = "restore"
    BY_HAND = "by hand"
    CUSTOMER = "customer"


WATCHED = (InvoiceState.UNPAID, InvoiceState.EXPIRED)
"""The states in which a payment is looked for."""

UNWATCHED = (InvoiceState.LAPSED, InvoiceState.CANCELLED)
"""The states in which no payment is expected any more, and one counts all the same."""

PAYABLE = (*WATCHED, *UNWATCHED)
"""The states in which a payment counts, in the only order in which an invoice can pass through them."""

EXPIRE_MARGIN = timedelta(seconds=10)
"""An invoice is called expired this long after its time, so that a payment in the last second is listed by then."""

LAPSE_MARGIN = timedelta(minutes=15)
"""A payment that was on its way when the payment request expired may still arrive for a while."""


INVOICE_MOVES: Mapping[InvoiceState, frozenset[InvoiceState]] = {
    InvoiceState.UNPAID: frozenset(
        {InvoiceState.SETTLED, InvoiceState.EXPIRED, InvoiceState.PAID_LATE, InvoiceState.CANCELLED}
    ),
    InvoiceState.EXPIRED: frozenset(
        {InvoiceState.SETTLED, InvoiceState.PAID_LATE, InvoiceState.LAPSED, InvoiceState.CANCELLED}
    ),
    InvoiceState.SETTLED: frozenset(),
    InvoiceState.PAID_LATE: frozenset(),
    InvoiceState.LAPSED: frozenset({InvoiceState.SETTLED, InvoiceState.PAID_LATE}),
    # Strike does not say whether a payment request that was shown can still be paid after that.
    InvoiceState.CANCELLED: frozenset({InvoiceState.SETTLED, InvoiceState.PAID_LATE}),
}

REFUND_MOVES: Mapping[RefundState, frozenset[RefundState]] = {
    RefundState.REQUESTED: frozenset(
        {RefundState.QUOTED, RefundState.FAILED, RefundState.NEEDS_ADDRESS, RefundState.HELD, RefundState.SENT}
    ),
    RefundState.QUOTED: frozenset({RefundState.IN_FLIGHT, RefundState.FAILED, RefundState.HELD, RefundState.REQUESTED}),
    RefundState.IN_FLIGHT: frozenset({RefundState.SENT, RefundState.FAILED}),
    # To SENT from here, and from REQUESTED, only a person goes, who has paid it back in another way.
    RefundState.FAILED: frozenset({RefundState.REQUESTED, RefundState.SENT}),
    RefundState.NEEDS_ADDRESS: frozenset({RefundState.REQUESTED, RefundState.SENT}),
    RefundState.HELD: frozenset({RefundState.REQUESTED, RefundState.SENT}),
    RefundState.SENT: frozenset(),
}

DELIVERY_MOVES: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.DELIVERED, DeliveryState.ABANDONED, DeliveryState.WITHDRAWN}),
    # One that was just being sent may still have been taken.
    DeliveryState.WITHDRAWN: frozenset({DeliveryState.DELIVERED}),
    # Only a person takes these two, with `python main.py redeliver`.
    DeliveryState.DELIVERED: frozenset({DeliveryState.PENDING}),
    DeliveryState.ABANDONED: frozenset({DeliveryState.PENDING}),
}


class ForbiddenMove(Exception):
    """A move that no table permits: a bug in this program, never an answer to anything outside it."""


def check_invoice_move(old: InvoiceState, new: InvoiceState) -> None:
    """Return when an invoice may go from `old` to `new`; raise ForbiddenMove, naming both, when not."""
    _check("invoice", INVOICE_MOVES, old, new)


def check_refund_move(old: RefundState, new: RefundState) -> None:
    """Return when a refund may go from `old` to `new`; raise ForbiddenMove, naming both, when not."""
    _check("refund", REFUND_MOVES, old, new)


def check_delivery_move(old: DeliveryState, new: DeliveryState) -> None:
    """Return when a delivery may go from `old` to `new`; raise ForbiddenMove, naming both, when not."""
    _check("delivery", DELIVERY_MOVES, old, new)


_State = TypeVar("_State", bound=StrEnum)


def _check(noun: str, moves: Mapping[_State, frozenset[_State]], old: _State, new: _State) -> None:
    if new not in moves[old]:
        raise ForbiddenMove(f"{noun}: {old} may not become {new}")
