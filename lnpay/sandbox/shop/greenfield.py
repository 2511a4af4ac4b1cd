"""The demo shop as one that sells through a BTCPay Server plugin: it uses only the Greenfield API.

It connects, creates and reads invoices as such plugins do, and ships on the same events.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from lnpay.sandbox.shop.backend import STANDING_TIMEOUT_SECONDS, BackendFailed, ask_backend
from lnpay.sandbox.shop.orders import Connection, ShopDelivery, ShopOrder
from lnpay.sandbox.web import Reply, Request, json_reply
from lnpay.sandbox.world import World

WEBHOOK_PATH = "/shop/btcpay"

EXPIRATION_MINUTES = 2
"""As short as LNPay's own default, so that a payment is soon late."""


def connect(simulator: World, shop_address: str) -> None:
    """Find the store and create the shop's webhook, as a plugin does when its settings are saved. Raises BackendFailed.

    If LNPay knows both, nothing changes: with a new secret, the shop would refuse events that are on their way.
    shop_address: where LNPay reaches the shop.
    """
    if _is_connected(simulator):
        return
    secret = secrets.token_hex(24)
    wanted = {"url": shop_address + WEBHOOK_PATH, "secret": secret, "authorizedEvents": {"everything": True}}
    with _reading():
        store_id = str(_ask(simulator, "GET", "/api/v1/stores")[0]["id"])
        webhook_id = str(_ask(simulator, "POST", f"/api/v1/stores/{quote(store_id)}/webhooks", wanted)["id"])
    with simulator.lock:
        simulator.shop.connection = Connection(store_id, webhook_id, secret)


def _is_connected(simulator: World) -> bool:
    known = simulator.shop.connection
    if known is None:
        return False
    path = f"/api/v1/stores/{quote(known.store_id)}/webhooks/{quote(known.webhook_id)}"
    return ask_backend(simulator, "GET", path, scheme="token")[0] == 200


def create_invoice(simulator: World, order: ShopOrder, return_url: str) -> None:
    """Create the invoice of an order, and note how it is paid. return_url: where the payment page leads afterwards."""
    body = {
        "amount": order.amount.strip().replace(",", "."),
        "currency": order.currency.upper(),
        "metadata": {"orderId": order.order_id, "itemDesc": order.product},
        "checkout": {
            "expirationMinutes": EXPIRATION_MINUTES,
            "redirectURL": return_url or None,
            "redirectAutomatically": bool(return_url),
        },
    }
    with _reading():
        made = _ask(simulator, "POST", _invoices(simulator), body)
        (method, *_) = _ask(simulator, "GET", f"{_invoices(simulator, made['id'])}/payment-methods")
        order.answer = {
            "invoice": {"invoiceId": made["id"]},
            "quote": {"lnInvoice": method["destination"]},
            "checkout_url": made["checkoutLink"],
            "expiration_time": datetime.fromtimestamp(made["expirationTime"], UTC).isoformat(),
        }


def read_invoice(simulator: World, order: ShopOrder) -> Any:  # noqa: ANN401 - JSON
    """The current invoice of an order. Raises BackendFailed."""
    return _ask(simulator, "GET", _invoices(simulator, order.invoice_id), timeout_seconds=STANDING_TIMEOUT_SECONDS)


def receive_event(simulator: World, request: Request) -> Reply:
    """The webhook of the shop: check the signature, ship what is paid, answer as configured."""
    shop = simulator.shop
    is_genuine = _is_signed(shop.connection, request)
    status = 405 if request.method != "POST" else shop.next_status() if is_genuine else 401
    delivery = ShopDelivery(simulator.now(), request.headers(), request.body, status)
    shop.deliveries.append(delivery)
    told = delivery.json()
    if status == 200 and isinstance(told, dict) and _is_reason_to_ship(told):
        shop.ship(str(told.get("invoiceId", "")))
    return json_reply(status, {"received": status == 200})


def _is_signed(connection: Connection | None, request: Request) -> bool:
    if connection is None:
        return False
    expected = "sha256=" + hmac.new(connection.secret.encode(), request.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), (request.header("BTCPay-Sig") or "").encode())


def _is_reason_to_ship(told: dict[str, Any]) -> bool:
    """Plugins ship when the invoice is settled, and when a payment after its expiration is settled.

    LNPay sends the latter only for a late payment that it has accepted, never for one that it refunds.
    """
    is_late_payment = told.get("type") == "InvoicePaymentSettled" and told.get("afterExpiration") is True
    return told.get("type") == "InvoiceSettled" or is_late_payment


@contextmanager
def _reading() -> Iterator[None]:
    """Turn an answer without the fields that Greenfield promises into BackendFailed."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise BackendFailed("LNPay answered something other than Greenfield promises.") from error


def _invoices(simulator: World, invoice_id: str = "") -> str:
    connection = simulator.shop.connection
    if connection is None:
        raise BackendFailed("The shop is not connected to LNPay.")
    path = f"/api/v1/stores/{quote(connection.store_id)}/invoices"
    return f"{path}/{quote(invoice_id)}" if invoice_id else path


def _ask(simulator: World, method: str, path: str, body: object = None, **more: Any) -> Any:  # noqa: ANN401 - JSON
    """LNPay's answer, which must be a 200: plugins treat every other status as an error."""
    status, told = ask_backend(simulator, method, path, body, scheme="token", **more)
    if status != 200:
        raise BackendFailed(_reason(told) or f"LNPay answered {status}.")
    return told


def _reason(told: object) -> str:
    """The message of an error, or those of a list of wrong fields."""
    lines = told if isinstance(told, list) else [told]
    return " ".join(str(one.get("message", "")) for one in lines if isinstance(one, dict)).strip()
