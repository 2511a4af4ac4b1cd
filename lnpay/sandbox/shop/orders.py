"""The demo shop's orders, and the messages it received about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from lnpay.sandbox.shop.products import Cart


@dataclass(slots=True)
class ShopOrder:
    """One order, with LNPay's answer to it."""

    order_id: str
    product: str
    amount: str
    currency: str
    created_at: datetime
    answer: Mapping[str, Any]
    cart: Cart = field(default_factory=Cart)
    """Empty when something was ordered by its name."""
    address: str = ""
    is_paid: bool = False
    """What the shop was told at its webhook."""
    standing: Mapping[str, Any] = field(default_factory=dict)
    """What LNPay said when it was asked last."""

    @property
    def payment_request(self) -> str:
        """What the customer is asked to pay."""
        return str(self.answer.get("quote", {}).get("lnInvoice", ""))

    @property
    def invoice_id(self) -> str:
        """LNPay's name of the invoice."""
        return str(self.answer.get("invoice", {}).get("invoiceId", ""))

    @property
    def stage(self) -> str:
        """Where it stands: one of STAGES. Only the webhook makes it paid."""
        if self.is_paid:
            return "paid"
        state = str(self.standing.get("state", ""))
        if state == "paid_late":
            refund = self.standing.get("refund") or {}
            return _REFUND_STAGES.get(str(refund.get("state", "")), "refunding")
        return state if state in STAGES else "waiting"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self.stage in ("paid", "refunded", "lapsed")


STAGES = (
    "waiting",
    "settled",
    "paid",
    "expired",
    "lapsed",
    "cancelled",
    "refunding",
    "needs_address",
    "held",
    "refunded",
)
"""settled: LNPay knows of the payment, and the shop's webhook has not been reached yet."""

_REFUND_STAGES = {"sent": "refunded", "needs_address": "needs_address", "held": "held"}


@dataclass(frozen=True, slots=True)
class ShopDelivery:
    """One call the shop's webhook got, and what it answered."""

    at: datetime
    headers: dict[str, str]
    body: bytes
    status: int

    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """The body as JSON, None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(slots=True)
class Shop:
    """The shop's memory. answers: the statuses of the next calls, 200 when there are none left."""

    orders: dict[str, ShopOrder] = field(default_factory=dict)
    deliveries: list[ShopDelivery] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    always: int | None = None
    """Status of every call until changed; None: by `answers`."""

    def answer_with(self, status: int, times: int | None = 1) -> None:
        """Answer the next `times` calls (None: all of them) with a status."""
        if times is None:
            self.always = status
        else:
            self.always = None
            self.answers = [status] * times

    def next_status(self) -> int:
        """How the next call is answered."""
        if self.always is not None:
            return self.always
        return self.answers.pop(0) if self.answers else 200

    def accepted(self) -> list[ShopDelivery]:
        """The calls that were answered 2xx."""
        return [delivery for delivery in self.deliveries if 200 <= delivery.status < 300]

    def deliveries_of(self, order: ShopOrder) -> list[ShopDelivery]:
        """The calls about one order."""
        return [one for one in self.deliveries if order.payment_request and _invoice_in(one) == order.payment_request]

    def order_to_pay(self, payment_request: str) -> ShopOrder | None:
        """The order that a payment request belongs to."""
        text = payment_request.strip().lower().removeprefix("lightning:")
        return next((one for one in self.orders.values() if text and one.payment_request == text), None)

    def mark_paid(self, payment_request: str, amount: object, currency: object) -> None:
        """Note that the order with this payment request is paid, if the message is about the order's own price."""
        for order in self.orders.values():
            is_meant = payment_request and order.payment_request == payment_request
            if is_meant and currency == order.currency and _is_amount(amount, order.amount):
                order.is_paid = True


def _is_amount(told: object, ordered: str) -> bool:
    try:
        return isinstance(told, str) and Decimal(told) == Decimal(ordered.strip().replace(",", "."))
    except ArithmeticError:  # one of them is no number
        return False


def _invoice_in(delivery: ShopDelivery) -> str:
    told = delivery.json()
    return str(told.get("invoice", "")) if isinstance(told, dict) else ""
