"""The demo shop's orders, and the messages it received about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from lnpay.sandbox.shop.products import Cart


class Way(StrEnum):
    """How the shop connects to LNPay: through its own API, or as a plugin for BTCPay Server does."""

    NATIVE = "native"
    GREENFIELD = "greenfield"


@dataclass(frozen=True, slots=True)
class Connection:
    """What a connected plugin keeps: its store, its webhook and the secret that signs the events."""

    store_id: str
    webhook_id: str
    secret: str = field(repr=False)


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
    way: Way = Way.NATIVE
    is_paid: bool = False
    """Whether a message to the shop's webhook has reported the payment."""
    standing: Mapping[str, Any] = field(default_factory=dict)
    """The state in LNPay's latest answer."""

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
        """The order's stage: one of STAGES. Only a webhook marks it paid."""
        if self.is_paid:
            return "paid"
        if self.way is Way.GREENFIELD:
            is_late_and_kept = self.standing.get("additionalStatus") == "PaidLate"
            return "settled" if is_late_and_kept else _PLUGIN_STAGES.get(str(self.standing.get("status")), "waiting")
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
"""settled: LNPay knows of the payment, but its message has not reached the shop's webhook yet."""

_PLUGIN_STAGES = {"Settled": "settled", "Expired": "expired", "Invalid": "cancelled"}
"""A plugin is not informed of a late payment that is refunded: its invoice stays expired."""

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

    @property
    def type(self) -> str:
        """What it reports, such as "invoice.settled"; empty when it does not say."""
        told = self.json()
        return str(told.get("type", "")) if isinstance(told, dict) else ""

    def is_about(self, order: ShopOrder) -> bool:
        """Whether it is about this order, and came in the way in which the order was placed."""
        told = self.json()
        if not isinstance(told, dict):
            return False
        name, known = ("invoice", order.payment_request)
        if order.way is Way.GREENFIELD:
            name, known = ("invoiceId", order.invoice_id)
        return bool(known) and told.get(name) == known


@dataclass(slots=True)
class Shop:
    """The shop's state. answers: the statuses of the next calls, 200 when there are none left.

    way: of new orders. connection: once it has sold as a plugin does.
    """

    orders: dict[str, ShopOrder] = field(default_factory=dict)
    deliveries: list[ShopDelivery] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    way: Way = Way.NATIVE
    connection: Connection | None = None
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
        return [one for one in self.deliveries if one.is_about(order)]

    def order_to_pay(self, payment_request: str) -> ShopOrder | None:
        """The order that a payment request belongs to."""
        text = payment_request.strip().lower().removeprefix("lightning:")
        return next((one for one in self.orders.values() if text and one.payment_request == text), None)

    def ship(self, invoice_id: str) -> None:
        """Note that the order that was placed with this invoice is paid, for a plugin."""
        for order in self.orders.values():
            if order.way is Way.GREENFIELD and invoice_id and order.invoice_id == invoice_id:
                order.is_paid = True

    def mark_paid(self, payment_request: str, amount: object, currency: object) -> None:
        """Note that the order with this payment request is paid, if the message is about the order's own price."""
        for order in self.orders.values():
            is_meant = payment_request and order.way is Way.NATIVE and order.payment_request == payment_request
            if is_meant and currency == order.currency and _is_amount(amount, order.amount):
                order.is_paid = True


def _is_amount(told: object, ordered: str) -> bool:
    try:
        return isinstance(told, str) and Decimal(told) == Decimal(ordered.strip().replace(",", "."))
    except ArithmeticError:  # one of them is not a number
        return False
