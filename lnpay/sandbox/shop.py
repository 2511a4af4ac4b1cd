"""The demo shop: its orders, and what it was told about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lnpay.sandbox.web import Reply, Request, json_reply

if TYPE_CHECKING:
    from lnpay.sandbox.simulator import Simulator


@dataclass(slots=True)
class Order:
    """One order, with LNPay's answer to it."""

    order_id: str
    product: str
    amount: str
    created_at: datetime
    answer: Mapping[str, Any]
    is_paid: bool = False

    @property
    def payment_request(self) -> str:
        """What the customer is asked to pay."""
        return str(self.answer.get("quote", {}).get("lnInvoice", ""))


@dataclass(frozen=True, slots=True)
class ShopDelivery:
    """One call the shop's webhook got, and what it answered."""

    at: datetime
    headers: dict[str, str]
    body: bytes
    status: int

    def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        """The body as JSON, None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(slots=True)
class Shop:
    """The shop's memory. answers: the statuses of the next calls, 200 when there are none left."""

    orders: dict[str, Order] = field(default_factory=dict)
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

    def mark_paid(self, payment_request: str) -> None:
        """Note that the order with this payment request is paid."""
        for order in self.orders.values():
            if payment_request and order.payment_request == payment_request:
                order.is_paid = True


def receive_webhook(simulator: Simulator, request: Request) -> Reply:
    """The shop's own webhook: remember the call, mark the order paid, answer as told."""
    shop = simulator.shop
    status = shop.next_status() if request.method == "POST" else 405
    delivery = ShopDelivery(simulator.now(), request.headers(), request.body, status)
    shop.deliveries.append(delivery)
    told = delivery.json()
    if status == 200 and isinstance(told, dict) and told.get("status") == "success":
        shop.mark_paid(str(told.get("invoice", "")))
    return json_reply(status, {"received": status == 200})
