"""The pages for people: what a person without JavaScript sees and can do."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import requests
from werkzeug import Request, Response

from lnpay.sandbox import WsgiAdapter
from lnpay.sandbox.presets import PRESETS
from tests.sandbox.strike_client import Client

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
PAGES = ("/", "/shop", "/wallet", "/ledger", "/faults")


class Backend:
    """Stands where LNPay would be: makes invoices at the same simulator."""

    def __init__(self, strike: Client) -> None:
        self.strike = strike
        self.asked: list[dict[str, Any]] = []
        self.refusal: dict[str, Any] | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        self.asked.append(request.get_json())
        if self.refusal is not None:
            answer, status = self.refusal, 400
        else:
            answer, status = {"status": "success", "data": self.sell()}, 200
        return Response(json.dumps(answer), status, mimetype="application/json")(environ, start_response)

    def sell(self) -> dict[str, Any]:
        invoice = self.strike.invoice()
        return {
            "invoice": invoice,
            "quote": self.strike.quote(invoice["invoiceId"]),
            "qr_code": PIXEL,
            "expiration_time": "2026-01-01T00:02:00+00:00",
            "checkout_url": "http://backend.test/checkout/token",
            "warnings": ["ln_address cannot be paid"],
        }


@pytest.fixture
def backend(strike: Client) -> Backend:
    backend = Backend(strike)

    def new_session() -> requests.Session:
        session = requests.Session()
        session.mount("http://backend.test", WsgiAdapter(backend))
        return session

    strike.simulator.new_shop_session = new_session
    strike.simulator.config.backend_url = "http://backend.test"
    return backend


def order(strike: Client, **fields: str) -> requests.Response:
    form = {"product": "Coffee", "amount": "12.50", "address": "me@wallet.example", **fields}
    return strike.call("POST", "/shop", data=form)


def tell_shop(strike: Client, payment_request: str) -> requests.Response:
    return strike.call("POST", "/shop/webhook", json={"status": "success", "invoice": payment_request})


def test_an_order_shows_how_to_pay_and_turns_to_paid(strike: Client, backend: Backend) -> None:
    page = order(strike)
    request = re.search(r"lnbc516360n1[a-z0-9]+", page.text)
    assert request is not None

    assert backend.asked[0].keys() == {"amount_fiat", "description", "correlation_id", "ln_address"}
    assert f"data:image/png;base64,{PIXEL}" in page.text
    assert "http://backend.test/checkout/token" in page.text
    assert 'http-equiv="refresh"' in page.text
    assert "ln_address cannot be paid" in page.text

    assert tell_shop(strike, request[0]).status_code == 200
    paid = strike.get("/" + page.url.partition("test/")[2])
    assert "Paid. Thank you!" in paid.text
    assert 'http-equiv="refresh"' not in paid.text
    assert '<span class="good">paid</span>' in strike.get("/shop").text


def test_a_refusal_is_shown_and_what_was_typed_stays(strike: Client, backend: Backend) -> None:
    backend.refusal = {"status": "error", "message": "Please check.", "errors": {"amount_fiat": "is <odd>"}}

    page = order(strike, amount="many")

    assert page.status_code == 502
    assert "Please check. amount_fiat is &lt;odd&gt;" in page.text
    assert 'value="many"' in page.text


def test_a_backend_that_does_not_run_is_one_clear_line(strike: Client) -> None:
    strike.simulator.config.backend_url = "http://127.0.0.1:1"

    assert "Is it running?" in order(strike).text


def test_the_shop_answers_as_it_is_told(strike: Client, backend: Backend) -> None:
    page = order(strike)
    strike.control("/shop", status=500, times=2)

    statuses = [tell_shop(strike, "lnbc1").status_code for _ in range(3)]

    assert statuses == [500, 500, 200]
    deliveries = strike.get("/_control/deliveries").json()
    assert [delivery["status"] for delivery in deliveries] == statuses
    assert deliveries[0]["json"] == {"status": "success", "invoice": "lnbc1"}
    assert deliveries[0]["headers"]["content-type"] == "application/json"
    assert "Waiting" in page.text


def test_a_refused_delivery_does_not_mark_the_order_paid(strike: Client, backend: Backend) -> None:
    order(strike)
    (placed,) = strike.simulator.shop.orders.values()
    strike.control("/shop", status=503, times=None)

    tell_shop(strike, placed.payment_request)

    assert not placed.is_paid
    strike.control("/shop", status=200, times=0)
    tell_shop(strike, placed.payment_request)
    assert placed.is_paid


def test_the_wallet_pays_in_time(strike: Client) -> None:
    request = strike.quote(strike.invoice()["invoiceId"])["lnInvoice"]

    filled = strike.get("/wallet", payment_request=request)
    paid = strike.call("POST", "/wallet", data={"payment_request": request})
    again = strike.call("POST", "/wallet", data={"payment_request": request})

    assert request in filled.text
    assert "99 948 364 sats" in paid.text
    assert (again.status_code, "paid already" in again.text) == (409, True)


def test_the_wallet_pays_late_by_moving_the_clock(strike: Client) -> None:
    request = strike.quote(strike.invoice()["invoiceId"])["lnInvoice"]
    before = strike.simulator.clock.now()

    page = strike.call("POST", "/wallet", data={"payment_request": request, "late": "1"})

    assert "Paid late." in page.text
    assert (strike.simulator.ledger.entries[0].at - before).total_seconds() == 180


def test_a_refund_is_seen_in_the_wallet_and_in_the_ledger(strike: Client) -> None:
    strike.execute(strike.payment_quote("me@wallet.example"))

    for path in ("/wallet", "/ledger"):
        page = strike.get(path).text
        assert "me@wallet.example" in page
        assert "10 000" in page


@pytest.mark.parametrize("path", PAGES)
def test_a_page_needs_nothing_from_elsewhere(strike: Client, path: str) -> None:
    page = strike.get(path)

    assert page.status_code == 200
    assert not re.search(r"<script|<link|@import|(src|href)=[\"']?(https?:)?//", page.text)
    assert '<html lang="en">' in page.text


@pytest.mark.parametrize("name", PRESETS)
def test_a_common_fault_is_set_with_one_click_and_cleared(strike: Client, name: str) -> None:
    page = strike.call("POST", "/faults", data={"preset": name})
    assert page.status_code == 200
    assert strike.simulator.faults.faults or strike.simulator.shop.answers

    strike.call("POST", "/faults", data={"preset": "clear"})

    assert strike.simulator.faults.faults == []
    assert strike.simulator.shop.answers == []


def test_setting_a_fault_twice_sets_two(strike: Client) -> None:
    for _ in range(2):
        strike.call("POST", "/faults", data={"preset": "strike-down"})

    assert [fault.times for fault in strike.simulator.faults.faults] == [10, 10]


def test_time_passes_with_one_click(strike: Client) -> None:
    strike.call("POST", "/faults/clock", data={"seconds": "60"})

    assert strike.simulator.clock.now().minute == 1
    for nonsense in ("-1", "", "x", "99999999999", "²"):
        assert strike.call("POST", "/faults/clock", data={"seconds": nonsense}).status_code == 400
