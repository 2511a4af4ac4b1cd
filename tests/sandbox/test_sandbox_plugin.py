"""The demo shop as a shop with a BTCPay plugin: what it believes, and on what it ships."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import requests
from werkzeug import Request, Response

from lnpay.sandbox import WsgiAdapter
from lnpay.sandbox.shop.orders import Connection, ShopOrder, Way
from tests.sandbox.strike_client import Client

SECRET = "5e" * 24
INVOICE = "a-b-c"
CONNECTION = Connection("store", "hook", SECRET)


@pytest.fixture
def order(strike: Client) -> ShopOrder:
    """An open order of a connected shop."""
    shop = strike.simulator.shop
    shop.connection = CONNECTION
    answer = {
        "invoice": {"invoiceId": INVOICE}, "quote": {"lnInvoice": "lnbc1"}, "checkout_url": "http://backend.test/i/a-b-c",
        "expiration_time": "2026-01-01T00:02:00+00:00",
    }  # fmt: skip
    order = ShopOrder("1042", "Tea", "7.20", "usd", strike.simulator.now(), answer, way=Way.GREENFIELD)
    shop.orders[order.order_id] = order
    return order


def tell(strike: Client, type_: str, secret: str = SECRET, **fields: Any) -> int:
    """Send an event; gives what the shop answers."""
    body = json.dumps({"type": type_, "invoiceId": INVOICE, **fields}).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"BTCPay-Sig": signature, "Content-Type": "application/json"}
    return strike.call("POST", "/shop/btcpay", data=body, headers=headers).status_code


@pytest.mark.parametrize(
    ("type_", "fields", "is_shipped"),
    [
        ("InvoiceCreated", {}, False),
        ("InvoiceReceivedPayment", {"afterExpiration": False}, False),
        ("InvoiceProcessing", {}, False),
        ("InvoicePaymentSettled", {"afterExpiration": False}, False),
        ("InvoicePaymentSettled", {"afterExpiration": True}, True),
        ("InvoiceSettled", {}, True),
        ("InvoiceSettled", {"invoiceId": "another"}, False),
        ("InvoiceExpired", {}, False),
    ],
)
def test_it_ships_on_what_plugins_ship_on(
    strike: Client, order: ShopOrder, type_: str, fields: dict[str, Any], is_shipped: bool
) -> None:
    assert tell(strike, type_, **fields) == 200
    assert order.is_paid is is_shipped


def test_an_event_with_another_signature_is_refused(strike: Client, order: ShopOrder) -> None:
    assert tell(strike, "InvoiceSettled", "another") == 401
    assert strike.call("POST", "/shop/btcpay", json={"type": "InvoiceSettled", "invoiceId": INVOICE}).status_code == 401
    strike.simulator.shop.connection = None
    assert tell(strike, "InvoiceSettled") == 401
    assert not order.is_paid


def test_an_event_that_it_answers_with_an_error_is_not_believed(strike: Client, order: ShopOrder) -> None:
    strike.simulator.shop.answer_with(500)

    assert tell(strike, "InvoiceSettled") == 500
    assert not order.is_paid
    assert tell(strike, "InvoiceSettled") == 200
    assert order.is_paid


def test_a_message_of_the_other_api_ships_nothing(strike: Client, order: ShopOrder) -> None:
    data = {"amount_fiat": "7.20", "currency": "usd"}
    strike.call("POST", "/shop/webhook", json={"status": "success", "invoice": "lnbc1", "data": data})

    assert not order.is_paid
    assert strike.simulator.shop.deliveries_of(order) == []


@pytest.mark.parametrize(
    ("status", "additional", "stage"),
    [
        ("New", "None", "waiting"), ("Processing", "None", "waiting"), ("Settled", "None", "settled"),
        ("Expired", "None", "expired"), ("Expired", "PaidLate", "settled"), ("Invalid", "Marked", "cancelled"),
    ],
)  # fmt: skip
def test_an_order_stands_where_its_invoice_does(order: ShopOrder, status: str, additional: str, stage: str) -> None:
    order.standing = {"status": status, "additionalStatus": additional}

    assert order.stage == stage


class Backend:
    """Stands where LNPay would be, and refuses. asked: the calls, each with its Authorization."""

    def __init__(self, answer: object, status: int) -> None:
        self.answer, self.status = answer, status
        self.asked: list[tuple[str, str, str | None]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        self.asked.append((request.method, request.path, request.headers.get("Authorization")))
        answer = Response(json.dumps(self.answer), self.status, mimetype="application/json")
        return answer(environ, start_response)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"code": "unauthenticated", "message": "send a valid API key"}, 401, "send a valid API key"),
        ([{"path": "amount", "message": "amount must be more"}], 422, "amount must be more"),
        ({}, 404, "LNPay answered 404."),
        ([], 201, "LNPay answered 201."),
        ([], 200, "LNPay answered something other than Greenfield promises."),
    ],
)
def test_a_refusal_is_shown_and_the_shop_speaks_as_before(
    strike: Client, answer: object, status: int, said: str
) -> None:
    backend = Backend(answer, status)

    def new_session() -> requests.Session:
        session = requests.Session()
        session.mount("http://backend.test", WsgiAdapter(backend))
        return session

    strike.simulator.new_shop_session = new_session
    strike.simulator.config.backend_url = "http://backend.test"
    strike.simulator.config.backend_api_key = "a-key"

    page = strike.call("POST", "/shop/way", data={"way": "greenfield"})

    assert page.status_code == 502
    assert said in page.text
    assert strike.simulator.shop.way is Way.NATIVE
    assert backend.asked == [("GET", "/api/v1/stores", "token a-key")]


def test_a_way_that_is_none_is_refused(strike: Client) -> None:
    assert strike.call("POST", "/shop/way", data={"way": "other"}).status_code == 400
