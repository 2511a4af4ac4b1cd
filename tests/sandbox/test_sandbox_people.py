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
from lnpay.sandbox.people.presets import GROUPS, PRESETS
from lnpay.sandbox.shop.products import price, read_cart
from tests.sandbox.strike_client import Client

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
PAGES = ("/", "/shop", "/shop/cart", "/wallet", "/ledger", "/faults")


class Backend:
    """Stands where LNPay would be: makes invoices at the same simulator."""

    def __init__(self, strike: Client) -> None:
        self.strike = strike
        self.asked: list[dict[str, Any]] = []
        self.refusal: dict[str, Any] | None = None
        self.standing: dict[str, Any] = {"state": "unpaid", "refund": None}
        self.key = ""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer, status = self.answer(Request(environ))
        return Response(json.dumps(answer), status, mimetype="application/json")(environ, start_response)

    def answer(self, request: Request) -> tuple[dict[str, Any], int]:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return {"status": "error", "code": "unauthorized", "message": "send a key"}, 401
        if request.method == "GET":
            return self.standing, 200
        self.asked.append(request.get_json())
        if self.refusal is not None:
            return self.refusal, 400
        return {"status": "success", "data": self.sell()}, 200

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


def path_of(page: requests.Response) -> str:
    return "/" + page.url.partition("test/")[2]


def tell_shop(strike: Client, payment_request: str, **changes: object) -> requests.Response:
    data = {"amount_fiat": "12.50", "currency": "usd", **changes}
    told = {"status": "success", "invoice": payment_request, "data": data}
    return strike.call("POST", "/shop/webhook", json=told)


def test_an_order_shows_how_to_pay_and_turns_to_paid(strike: Client, backend: Backend) -> None:
    page = order(strike)
    request = re.search(r"lnbc516360n1[a-z0-9]+", page.text)
    assert request is not None

    assert backend.asked[0].keys() == {"amount_fiat", "description", "correlation_id", "ln_address"}
    assert 'href="http://backend.test/checkout/token"' in page.text
    assert f'href="/wallet?payment_request={request[0]}"' in page.text
    assert 'http-equiv="refresh"' in page.text
    assert "ln_address cannot be paid" in page.text

    assert tell_shop(strike, request[0]).status_code == 200
    paid = strike.get(path_of(page))
    assert "Paid. Thank you!" in paid.text
    assert "the shop answered 200" in paid.text
    assert 'http-equiv="refresh"' not in paid.text
    assert ">paid</span>" in strike.get("/shop").text


def test_the_payment_page_has_the_way_back_to_a_shop_on_this_machine(strike: Client, backend: Backend) -> None:
    order(strike)
    strike.call("POST", "/shop", data={"amount": "1"}, headers={"Host": "127.0.0.1:5001"}, allow_redirects=False)

    elsewhere, here = backend.asked

    assert "return_url" not in elsewhere
    page = f"http://127.0.0.1:5001/shop/orders/{here['correlation_id']}"
    assert (here["return_url"], here["retry_url"]) == (page, f"{page}/again")


@pytest.mark.parametrize(
    ("standing", "heading"),
    [
        ({"state": "settled", "refund": None}, "Paid, the shop is being notified"),
        ({"state": "expired", "refund": None}, "The time to pay is over"),
        ({"state": "lapsed", "refund": None}, "Never paid"),
        ({"state": "paid_late", "refund": None}, "It came too late: refund on its way"),
        ({"state": "paid_late", "refund": {"state": "in_flight"}}, "It came too late: refund on its way"),
        ({"state": "paid_late", "refund": {"state": "needs_address"}}, "where should the money go?"),
        ({"state": "paid_late", "refund": {"state": "held"}}, "refund on hold"),
        ({"state": "paid_late", "refund": {"state": "sent"}}, "the money is back"),
        ({"state": "a word of later"}, "Waiting for the payment"),
        ({}, "Waiting for the payment"),
    ],
)
def test_an_order_page_asks_where_an_unpaid_order_stands(
    strike: Client, backend: Backend, standing: dict[str, Any], heading: str
) -> None:
    backend.standing = standing

    page = order(strike).text

    assert heading in page
    assert "Paid. Thank you!" not in page
    assert ('http-equiv="refresh"' in page) == (heading not in ("Never paid", "the money is back"))


def test_the_shop_asks_with_its_key(strike: Client, backend: Backend) -> None:
    backend.key = strike.simulator.config.backend_api_key = "the-key-of-the-shop"
    page = order(strike)
    backend.standing = {"state": "paid_late", "refund": {"state": "sent"}}

    assert "the money is back" in strike.get(path_of(page)).text


def test_the_list_of_orders_asks_too(strike: Client, backend: Backend) -> None:
    order(strike)
    backend.standing = {"state": "paid_late", "refund": {"state": "sent"}}

    assert "late, refunded" in strike.get("/shop").text


def test_an_order_page_shows_what_it_knows_when_lnpay_does_not_answer(strike: Client, backend: Backend) -> None:
    page = order(strike)
    strike.simulator.config.backend_url = "http://127.0.0.1:1"

    assert "Waiting for the payment" in strike.get(path_of(page)).text


class TestCart:
    def put(self, strike: Client, slug: str, button: str = "more") -> requests.Response:
        return self.go(strike, "POST", "/shop/cart", data={button: slug})

    def go(self, strike: Client, method: str, path: str, **options: Any) -> requests.Response:
        """Like a browser: inside the process, this client alone keeps cookies."""
        answer = strike.call(method, path, allow_redirects=False, **options)
        for name, value in re.findall(r"(\w+)=([\w.-]*)", answer.headers.get("Set-Cookie", ""))[:1]:
            strike.session.cookies.set(name, value)
        return strike.get(answer.headers["Location"]) if answer.is_redirect else answer

    def test_a_cart_is_filled_emptied_and_ordered(self, strike: Client, backend: Backend) -> None:
        for slug in ("coffee", "tea", "tea", "candle"):
            self.put(strike, slug)
        cart = self.put(strike, "candle", "less").text
        assert "$26.90" in cart
        assert "Candle" not in cart

        page = self.go(strike, "POST", "/shop/cart/order", data={"address": "me@wallet.example"})

        asked = backend.asked[0]
        assert (asked["amount_fiat"], asked["ln_address"]) == ("26.90", "me@wallet.example")
        assert asked["description"] == "A bag of coffee, 2 × Green tea"
        assert "2 × $7.20" in page.text
        assert "Cart (0)" in strike.get("/shop").text

    def test_the_address_may_be_left_out(self, strike: Client, backend: Backend) -> None:
        self.put(strike, "coffee")

        strike.call("POST", "/shop/cart/order", data={"address": ""})

        assert "ln_address" not in backend.asked[0]

    def test_a_refusal_leaves_the_cart_as_it_is(self, strike: Client, backend: Backend) -> None:
        backend.refusal = {"status": "error", "message": "No price now."}
        self.put(strike, "coffee")

        page = strike.call("POST", "/shop/cart/order", data={"address": "x@y.example"})

        assert page.status_code == 502
        assert "No price now." in page.text
        assert 'value="x@y.example"' in page.text
        assert "Cart (1)" in strike.get("/shop").text

    def test_an_empty_cart_orders_nothing(self, strike: Client, backend: Backend) -> None:
        assert "Your cart is empty" in strike.call("POST", "/shop/cart/order").text
        assert backend.asked == []

    def test_an_order_is_put_into_the_cart_again(self, strike: Client, backend: Backend) -> None:
        self.put(strike, "teapot")
        page = self.go(strike, "POST", "/shop/cart/order")

        assert "Teapot" in self.go(strike, "GET", path_of(page) + "/again").text

    def test_an_order_by_name_leads_to_its_form_again(self, strike: Client, backend: Backend) -> None:
        page = order(strike, product="A poem", amount="3.00")

        assert 'value="A poem"' in strike.get(path_of(page) + "/again").text

    @pytest.mark.parametrize("slug", ["", "nonsense"])
    def test_only_what_is_sold_can_be_put_in(self, strike: Client, slug: str) -> None:
        assert self.put(strike, slug).status_code == 400

    @pytest.mark.parametrize(
        ("cookie", "count"),
        [("coffee-2.tea-1", 3), ("coffee-999", 20), ("coffee--1.tea-x.beer-2", 0), ("…", 0), ("tea-²", 0)],
    )
    def test_any_cookie_is_read(self, cookie: str, count: int) -> None:
        assert read_cart(cookie).count == count

    def test_a_cookie_reads_as_it_was_written(self) -> None:
        cart = read_cart("coffee-2.candle-1")

        assert read_cart(cart.to_cookie()) == cart

    @pytest.mark.parametrize(("currency", "text"), [("usd", "12.50"), ("jpy", "1250"), ("brl", "12.50")])
    def test_a_price_has_the_decimals_of_its_currency(self, currency: str, text: str) -> None:
        assert price(1250, currency) == text


@pytest.mark.parametrize("path", ["/shop/orders/nothing", "/shop/orders/nothing/again", "/static/people.py"])
def test_what_is_not_there_is_404(strike: Client, path: str) -> None:
    assert strike.get(path).status_code == 404


def test_a_refusal_is_shown_and_what_was_typed_stays(strike: Client, backend: Backend) -> None:
    backend.refusal = {"status": "error", "message": "Please check.", "errors": {"amount_fiat": "is <odd>"}}

    page = order(strike, amount="many")

    assert page.status_code == 502
    assert "Please check. amount_fiat is &lt;odd&gt;" in page.text
    assert 'value="many"' in page.text


def test_a_backend_that_does_not_run_is_one_clear_line(strike: Client) -> None:
    strike.simulator.config.backend_url = "http://127.0.0.1:1"

    assert "Is it running?" in order(strike).text


def test_the_shop_answers_as_configured(strike: Client, backend: Backend) -> None:
    page = order(strike)
    strike.control("/shop", status=500, times=2)

    statuses = [tell_shop(strike, "lnbc1").status_code for _ in range(3)]

    assert statuses == [500, 500, 200]
    deliveries = strike.get("/_control/deliveries").json()
    assert [delivery["status"] for delivery in deliveries] == statuses
    assert deliveries[0]["json"]["invoice"] == "lnbc1"
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


@pytest.mark.parametrize(
    "other", [{"amount_fiat": "0.01"}, {"currency": "jpy"}, {"amount_fiat": 12.5}, {"amount_fiat": "a lot"}]
)
def test_a_message_about_another_price_does_not_mark_the_order_paid(
    strike: Client, backend: Backend, other: dict[str, object]
) -> None:
    order(strike)
    (placed,) = strike.simulator.shop.orders.values()

    tell_shop(strike, placed.payment_request, **other)

    assert not placed.is_paid


def test_the_wallet_pays_in_time(strike: Client) -> None:
    request = strike.quote(strike.invoice()["invoiceId"])["lnInvoice"]

    filled = strike.get("/wallet", payment_request=request)
    paid = strike.call("POST", "/wallet", data={"payment_request": request})
    again = strike.call("POST", "/wallet", data={"payment_request": request})

    assert request in filled.text
    assert "51,636 sats" in filled.text
    assert "99,948,364 sats" in paid.text
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
        assert "10,000" in page


@pytest.mark.parametrize("path", PAGES)
def test_a_page_needs_nothing_from_elsewhere(strike: Client, path: str) -> None:
    page = strike.get(path)

    assert page.status_code == 200
    foreign = re.findall(r"(?:src|href)=[\"']?((?:https?:)?//[^\"']*)", page.text)
    # The tour links to LNPay's own description.
    assert set(foreign) <= {f"{strike.simulator.config.backend_url}/docs"}
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|@import", page.text)
    assert '<html lang="en">' in page.text
    assert page.text.count("<h1") == 1


@pytest.mark.parametrize("path", PAGES)
def test_a_page_may_load_nothing_but_its_style_and_icon(strike: Client, path: str) -> None:
    page = strike.get(path)

    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'")
    for file in set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)):
        assert strike.get(file).status_code == 200
    assert 'aria-current="page"' in page.text
    assert "Behind this page:" in page.text


def test_the_style_sheet_needs_nothing_either(strike: Client) -> None:
    sheet = strike.get("/static/sandbox.css")

    assert sheet.headers["Content-Type"].startswith("text/css")
    assert "prefers-color-scheme: dark" in sheet.text
    assert not re.search(r"url\(|@import|//", sheet.text)


def test_every_fault_has_its_place_on_the_panel(strike: Client) -> None:
    page = strike.get("/faults").text

    assert sorted(name for group in GROUPS for name in group.names) == sorted(PRESETS)
    assert all(preset.title in page for preset in PRESETS.values())


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
