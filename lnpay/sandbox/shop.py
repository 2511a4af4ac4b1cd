"""The demo shop: its orders, and what it was told about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import requests

from lnpay.sandbox.web import Reply, Request, json_reply

if TYPE_CHECKING:
    from lnpay.sandbox.simulator import Simulator


BACKEND_TIMEOUT_SECONDS = 20


class BackendFailed(Exception):
    """LNPay did not make an invoice; the text says why, for people."""


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


def place_order(simulator: Simulator, *, product: str, amount: str, address: str) -> Order:
    """Ask LNPay for an invoice and remember the order. Raises BackendFailed."""
    order_id = simulator.new_id()
    body = {"amount_fiat": amount, "description": product[:200], "correlation_id": order_id}
    if address:
        body["ln_address"] = address
    order = Order(order_id, product, amount, simulator.now(), _ask_backend(simulator, body))
    with simulator.lock:
        simulator.shop.orders[order_id] = order
    return order


def _ask_backend(simulator: Simulator, body: dict[str, str]) -> Mapping[str, Any]:
    """LNPay's `data` for a new invoice."""
    config = simulator.config
    key = config.backend_api_key
    try:
        with simulator.new_shop_session() as session:
            answer = session.post(
                f"{config.backend_url}/generate-invoice",
                json=body,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=BACKEND_TIMEOUT_SECONDS,
            )
            told = answer.json()
    except requests.JSONDecodeError as error:
        raise BackendFailed(f"LNPay at {config.backend_url} answered something else than JSON.") from error
    except requests.RequestException as error:
        raise BackendFailed(f"LNPay at {config.backend_url} does not answer. Is it running?") from error
    if not isinstance(told, dict) or not isinstance(told.get("data"), dict):
        raise BackendFailed(_reason(told) or f"LNPay answered {answer.status_code}.")
    data: dict[str, Any] = told["data"]
    return data


def _reason(told: object) -> str:
    if not isinstance(told, dict):
        return ""
    errors = told.get("errors")
    details = [f"{name} {why}" for name, why in errors.items()] if isinstance(errors, dict) else []
    return " ".join([str(told.get("message", "")), *details]).strip()


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
