"""The states of an invoice, a refund and a delivery, and every permitted move: the only place that defines them.

docs/states.md shows the tables below. Attempting any other move is a bug in LNPay and raises `ForbiddenMove`. Events
from outside that come twice or at once (two workers, a repeated webhook) never raise it: there, the row count of a
conditional update decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar


class InvoiceState(StrEnum):
    """The state of an invoice. The time of the payment decides, not the time at which LNPay noticed it."""

    UNPAID = "unpaid"  # payable until expires_at
    SETTLED = "settled"  # paid in time, or later and accepted: a delivery is owed
    EXPIRED = "expired"  # no payment seen in time: still watched
    PAID_LATE = "paid_late"  # paid after expires_at: a refund is owed, unless the operator accepts the payment
    LAPSED = "lapsed"  # unpaid, and the payment request has ended: not polled, but a payment still counts
    CANCELLED = "cancelled"  # cancelled at Strike before a payment was known: not polled, but a payment still counts


class RefundState(StrEnum):
    """The state of a refund. `IN_FLIGHT` is left only on evidence from Strike."""

    REQUESTED = "requested"  # owed; the idempotency key is stored
    QUOTED = "quoted"  # Strike's payment quote is stored; nothing has moved
    IN_FLIGHT = "in_flight"  # execution has started: it may or may not have been sent
    SENT = "sent"  # Strike says it is paid
    FAILED = "failed"  # Strike says it was not paid; tried again with a new key
    NEEDS_ADDRESS = "needs_address"  # there is no address, or it was refused
    HELD = "held"  # waits for the operator: a limit, a restore, or a late payment that may be accepted
    CANCELED = "canceled"  # withdrawn before anything was sent: its amount can be refunded again


class RefundKind(StrEnum):
    """Why money is owed back."""

    LATE = "late"  # the payment came after the deadline: at most one per invoice
    MERCHANT = "merchant"  # the merchant refunds a paid order, whole or in part
    OVERPAID = "overpaid"  # more was received than the invoice asked for


class RefundAsker(StrEnum):
    """Who asked for a refund."""

    RULE = "rule"  # LNPay itself, by the rules for late payments and overpayments
    API_KEY = "api_key"
    OPERATOR = "operator"


class AmountBasis(StrEnum):
    """How the amount of a refund was specified."""

    WHOLE = "whole"  # everything that can still be refunded
    SATS = "sats"
    SALE_PRICE = "sale_price"  # in the invoice's currency, at the price of the sale
    TODAY_PRICE = "today_price"  # in the invoice's currency, at the price when the refund was asked for


class CancelCause(StrEnum):
    """Why a refund was canceled."""

    REQUESTED = "requested"  # by the merchant or the operator
    CLAIM_EXPIRED = "claim_expired"  # the customer gave no address in time
    ACCEPTED = "accepted"  # the operator has accepted the late payment: nothing is owed any more


class DeliveryState(StrEnum):
    """The state of a message owed to the shop."""

    PENDING = "pending"  # to be sent or retried
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
    """Why a refund is held for the operator."""

    REFUNDS_OFF = "refunds_off"  # REFUNDS_ENABLED is off
    MAX_SATS = "max_sats"  # it is above REFUND_MAX_SATS
    DAILY_MAX_SATS = "daily_max_sats"  # REFUND_DAILY_MAX_SATS is reached
    RESTORED = "restored"  # it may have been sent in the history that a restore lost
    REVERSED = "reversed"  # Strike has taken the payment back
    FORKED = "forked"  # another copy of this database may have sent it
    LATE_PAYMENT = "late_payment"  # LATE_PAYMENTS=hold: the payment may be accepted instead


class LatePayments(StrEnum):
    """What happens to a payment after the deadline."""

    REFUND = "refund"
    ACCEPT = "accept"  # it settles the order, unless the price has fallen too far since the sale
    HOLD = "hold"  # the operator decides


class Accepter(StrEnum):
    """Who has accepted a late payment."""

    RULE = "rule"  # LATE_PAYMENTS=accept
    OPERATOR = "operator"


class Closer(StrEnum):
    """On whose evidence a refund counts as sent."""

    STRIKE = "strike"
    INFERRED = "inferred"  # Strike says that it was processed before, but names no payment
    OPERATOR = "operator"


class RefundStep(StrEnum):
    """The step during which a row was added to a refund's history."""

    QUOTE = "quote"
    EXECUTE = "execute"
    LOOK = "look"
    WEBHOOK = "webhook"
    HOLD = "hold"
    RESTORE = "restore"
    BY_HAND = "by hand"
    CUSTOMER = "customer"
    POLICY = "policy"  # why a late payment is refunded rather than accepted
    REQUEST = "request"  # it was asked for
    CANCEL = "cancel"


WATCHED = (InvoiceState.UNPAID, InvoiceState.EXPIRED)
"""The states in which LNPay looks for a payment."""

UNWATCHED = (InvoiceState.LAPSED, InvoiceState.CANCELLED)
"""The states in which no payment is expected, although one would still count."""

PAID = (InvoiceState.SETTLED, InvoiceState.PAID_LATE)
"""The states with a counted payment."""

OPEN_REFUNDS = tuple(state for state in RefundState if state not in (RefundState.SENT, RefundState.CANCELED))
"""The states of a refund that is still owed."""

PAYABLE = (*WATCHED, *UNWATCHED)
"""The states in which a payment still counts, in the only order in which an invoice passes through them."""

REFUNDABLE = (InvoiceState.SETTLED,)
"""The states of invoices that a merchant can refund. A late payment is refunded without a request."""

EXPIRE_MARGIN = timedelta(seconds=10)
"""How long after its deadline an invoice expires: by then Strike lists even a payment made in the last second."""

LAPSE_MARGIN = timedelta(minutes=15)
"""How long a payment that was in flight when the payment request expired may take to arrive."""


INVOICE_MOVES: Mapping[InvoiceState, frozenset[InvoiceState]] = {
    InvoiceState.UNPAID: frozenset(
        {InvoiceState.SETTLED, InvoiceState.EXPIRED, InvoiceState.PAID_LATE, InvoiceState.CANCELLED}
    ),
    InvoiceState.EXPIRED: frozenset(
        {InvoiceState.SETTLED, InvoiceState.PAID_LATE, InvoiceState.LAPSED, InvoiceState.CANCELLED}
    ),
    InvoiceState.SETTLED: frozenset(),
    # Only the operator, who accepts the payment of a held refund.
    InvoiceState.PAID_LATE: frozenset({InvoiceState.SETTLED}),
    InvoiceState.LAPSED: frozenset({InvoiceState.SETTLED, InvoiceState.PAID_LATE}),
    # Strike does not say whether a payment request can still be paid after its invoice was cancelled.
    InvoiceState.CANCELLED: frozenset({InvoiceState.SETTLED, InvoiceState.PAID_LATE}),
}

REFUND_MOVES: Mapping[RefundState, frozenset[RefundState]] = {
    RefundState.REQUESTED: frozenset(
        {RefundState.QUOTED, RefundState.FAILED, RefundState.NEEDS_ADDRESS, RefundState.HELD, RefundState.SENT}
        | {RefundState.CANCELED}
    ),
    RefundState.QUOTED: frozenset(
        {RefundState.IN_FLIGHT, RefundState.FAILED, RefundState.HELD, RefundState.REQUESTED, RefundState.CANCELED}
    ),
    RefundState.IN_FLIGHT: frozenset({RefundState.SENT, RefundState.FAILED}),
    # Only the operator, who has refunded it in another way, moves it from here or from REQUESTED to SENT.
    RefundState.FAILED: frozenset({RefundState.REQUESTED, RefundState.SENT, RefundState.CANCELED}),
    RefundState.NEEDS_ADDRESS: frozenset({RefundState.REQUESTED, RefundState.SENT, RefundState.CANCELED}),
    RefundState.HELD: frozenset(
        {RefundState.REQUESTED, RefundState.SENT, RefundState.NEEDS_ADDRESS, RefundState.CANCELED}
    ),
    RefundState.SENT: frozenset(),
    RefundState.CANCELED: frozenset(),
}

DELIVERY_MOVES: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.DELIVERED, DeliveryState.ABANDONED, DeliveryState.WITHDRAWN}),
    # A message that was being sent when it was withdrawn may still be accepted.
    DeliveryState.WITHDRAWN: frozenset({DeliveryState.DELIVERED}),
    # Only the operator or the shop makes these moves, by having a message sent again.
    DeliveryState.DELIVERED: frozenset({DeliveryState.PENDING}),
    DeliveryState.ABANDONED: frozenset({DeliveryState.PENDING, DeliveryState.WITHDRAWN}),
}


class ForbiddenMove(Exception):
    """A move that no table permits: a bug in LNPay, never the result of outside events."""


def check_invoice_move(old: InvoiceState, new: InvoiceState) -> None:
    """Return if an invoice may move from `old` to `new`; otherwise raise ForbiddenMove, naming both."""
    _check("invoice", INVOICE_MOVES, old, new)


def check_refund_move(old: RefundState, new: RefundState) -> None:
    """Return if a refund may move from `old` to `new`; otherwise raise ForbiddenMove, naming both."""
    _check("refund", REFUND_MOVES, old, new)


def check_delivery_move(old: DeliveryState, new: DeliveryState) -> None:
    """Return if a delivery may move from `old` to `new`; otherwise raise ForbiddenMove, naming both."""
    _check("delivery", DELIVERY_MOVES, old, new)


_State = TypeVar("_State", bound=StrEnum)


def _check(noun: str, moves: Mapping[_State, frozenset[_State]], old: _State, new: _State) -> None:
    if new not in moves[old]:
        raise ForbiddenMove(f"{noun}: {old} may not become {new}")
