"""The demo shop's actions: order from LNPay, refresh an order's state, receive LNPay's webhook.

It speaks LNPay's own API, or Greenfield as a plugin does (greenfield.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from lnpay.sandbox.shop import greenfield
from lnpay.sandbox.shop.backend import STANDING_TIMEOUT_SECONDS, BackendFailed, ask_backend
from lnpay.sandbox.shop.orders import ShopDelivery, ShopOrder, Way
from lnpay.sandbox.shop.products import Cart
from lnpay.sandbox.web import Reply, Request, json_reply
from lnpay.sandbox.world import World

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def place_order(
    simulator: World,
    *,
    product: str,
    amount: str,
    address: str,
    cart: Cart | None = None,
    shop_url: str = "",
) -> ShopOrder:
    """Request an invoice from LNPay and store the order. Raises BackendFailed.

    shop_url: where the shop's customer sees it, so that the payment page can lead back.
    """
    order_id = simulator.new_id()
    currency, way = simulator.config.shop_currency, simulator.shop.way
    order = ShopOrder(order_id, product, amount, currency, simulator.now(), {}, cart or Cart(), address, way)
    links = _links(shop_url, order_id)
    if way is Way.GREENFIELD:
        greenfield.create_invoice(simulator, order, links.get("return_url", ""))
    else:
        body = {"amount_fiat": amount, "description": product[:200], "correlation_id": order_id, **links}
        order.answer = _ask_for_invoice(simulator, {**body, "ln_address": address} if address else body)
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
    """Read the invoice's state from LNPay, because the webhook reports a late payment only if DELIVERY_EVENTS names it.

    Without an answer, the known state is kept.
    """
    if order.is_final or not order.invoice_id:
        return
    try:
        if order.way is Way.GREENFIELD:
            told = greenfield.read_invoice(simulator, order)
        else:
            path = f"/invoices/{order.invoice_id}"
            _, told = ask_backend(simulator, "GET", path, timeout_seconds=STANDING_TIMEOUT_SECONDS)
    except BackendFailed:
        return
    if isinstance(told, dict) and ("state" in told or "status" in told):
        order.standing = told


def _ask_for_invoice(simulator: World, body: dict[str, str]) -> Mapping[str, Any]:
    """LNPay's `data` for a new invoice."""
    status, told = ask_backend(simulator, "POST", "/generate-invoice", body)
    if not isinstance(told, dict) or not isinstance(told.get("data"), dict):
        raise BackendFailed(_reason(told) or f"LNPay answered {status}.")
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
