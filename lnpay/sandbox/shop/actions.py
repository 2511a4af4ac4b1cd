"""The demo shop's actions: order from LNPay, refresh an order's state, receive LNPay's webhook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from lnpay.sandbox.shop.orders import ShopDelivery, ShopOrder
from lnpay.sandbox.shop.products import Cart
from lnpay.sandbox.web import Reply, Request, json_reply
from lnpay.sandbox.world import World

BACKEND_TIMEOUT_SECONDS = 20
STANDING_TIMEOUT_SECONDS = 3
"""Short, because the page of an order polls again soon."""

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class BackendFailed(Exception):
    """LNPay did not create an invoice; the message says why."""


def place_order(
    simulator: World,
    *,
    product: str,
    amount: str,
    address: str,
    cart: Cart | None = None,
    shop_url: str = "",
) -> ShopOrder:
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
    order = ShopOrder(order_id, product, amount, currency, simulator.now(), answer, cart or Cart(), address)
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


def refresh_state(simulator: World, order: ShopOrder) -> None:
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


def _key(simulator: World) -> dict[str, str]:
    key = simulator.config.backend_api_key
    return {"Authorization": f"Bearer {key}"} if key else {}


def _ask_backend(simulator: World, body: dict[str, str]) -> Mapping[str, Any]:
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
        raise BackendFailed(f"LNPay at {config.backend_url} answered something other than JSON.") from error
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


def receive_webhook(simulator: World, request: Request) -> Reply:
    """The shop's webhook: record the call, mark the order paid, answer as configured."""
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
