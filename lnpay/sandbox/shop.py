"""The demo shop: its orders, and what it was told about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from lnpay.sandbox.products import Cart
from lnpay.sandbox.web import Reply, Request, json_reply

if TYPE_CHECKING:
    from lnpay.sandbox.simulator import Simulator


BACKEND_TIMEOUT_SECONDS = 20
STANDING_TIMEOUT_SECONDS = 3
"""The page of an order does not wait long: it asks again in a moment."""

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class BackendFailed(Exception):
    """LNPay did not make an invoice; the text says why, for people."""


@dataclass(slots=True)
class Order:
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

    def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        """The body as JSON, None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
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

    def deliveries_of(self, order: Order) -> list[ShopDelivery]:
        """The calls about one order."""
        return [one for one in self.deliveries if order.payment_request and _invoice_in(one) == order.payment_request]

    def order_to_pay(self, payment_request: str) -> Order | None:
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


def place_order(
    simulator: Simulator,
    *,
    product: str,
    amount: str,
    address: str,
    cart: Cart | None = None,
    shop_url: str = "",
) -> Order:
    """Ask LNPay for an invoice and remember the order. Raises BackendFailed.

    shop_url: where the shop's customer sees it, so that the payment page can lead back.
    """
    order_id = simulator.new_id()
    body = {
        "amount_fiat": amount, "description": product[:200], "correlation_id": order_id, **_links(shop_url, order_id)
    }  # fmt: skip
    if address:
        body["ln_address"] = address
    answer = _ask_backend(simulator, body)
    currency = simulator.config.shop_currency
    order = Order(order_id, product, amount, currency, simulator.now(), answer, cart or Cart(), address)
    with simulator.lock:
        simulator.shop.orders[order_id] = order
    return order


def _links(shop_url: str, order_id: str) -> dict[str, str]:
    """Where the payment page leads to afterwards. LNPay takes https, or http on this machine."""
    parts = urlsplit(shop_url)
    if parts.scheme != "https" and parts.hostname not in THIS_MACHINE:
        return {}
    page = f"{shop_url}/orders/{order_id}"
    return {"return_url": page, "retry_url": f"{page}/again"}


def refresh_standing(simulator: Simulator, order: Order) -> None:
    """Ask LNPay where the invoice stands: of a late payment the webhook is not told unless DELIVERY_EVENTS says so.

    When there is no answer, what is known stays.
    """
    if order.is_final or not order.invoice_id:
        return
    url = f"{simulator.config.backend_url}/invoices/{order.invoice_id}"
    try:
        with simulator.new_shop_session() as session:
            told = session.get(url, headers=_key(simulator), timeout=STANDING_TIMEOUT_SECONDS).json()
    except requests.RequestException:
        return
    if isinstance(told, dict) and "state" in told:
        order.standing = told


def _key(simulator: Simulator) -> dict[str, str]:
    key = simulator.config.backend_api_key
    return {"Authorization": f"Bearer {key}"} if key else {}


def _ask_backend(simulator: Simulator, body: dict[str, str]) -> Mapping[str, Any]:
    """LNPay's `data` for a new invoice."""
    config = simulator.config
    try:
        with simulator.new_shop_session() as session:
            answer = session.post(
                f"{config.backend_url}/generate-invoice",
                json=body,
                headers=_key(simulator),
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
    is_question = request.method == "OPTIONS"
    status = shop.next_status() if request.method == "POST" else 204 if is_question else 405
    delivery = ShopDelivery(simulator.now(), request.headers(), request.body, status)
    shop.deliveries.append(delivery)
    told = delivery.json()
    if status == 200 and isinstance(told, dict) and told.get("status") == "success":
        data = told["data"] if isinstance(told.get("data"), dict) else {}
        shop.mark_paid(str(told.get("invoice", "")), data.get("amount_fiat"), data.get("currency"))
    if is_question:
        return Reply(status, headers=[("Allow", "OPTIONS, POST")])
    return json_reply(status, {"received": status == 200})
