"""/admin: access, what is shown, and that every button does what it says, once."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lnpay.deliveries.send import send_due
from lnpay.domain.errors import ShopGone, ShopRefused
from lnpay.domain.model import Event, Heartbeat, Invoice
from lnpay.domain.states import InvoiceState, LatePayments, RefundState
from lnpay.invoices.settle import reconcile_invoice
from lnpay.refunds.by_hand import BY_HAND_AFTER
from lnpay.repository.queries.searches import InvoiceFilter
from lnpay.runtime.worker_passes import Summary, expired_pass, make_pass
from lnpay.strike.buckets import Bucket
from lnpay.web.admin.session import IDLE, LONGEST
from tests.owing import ADDRESS, executions, owe, payouts, refund_of, send
from tests.refunding import left_sats, refunds_of, sell_paid
from tests.web.answers import NEVER_SHOWN
from tests.world import World

PASSWORD = "a-password-of-the-tests"
HOSTILE = "\"><script>alert('x')</script>&{{7*7}}"


@pytest.fixture
def make_shop(make_world: Callable[..., World]) -> Callable[..., World]:
    """Make worlds that have an operator's page."""

    def make(**changes: object) -> World:
        return make_world(admin_password=PASSWORD, **changes)

    return make


@pytest.fixture
def shop(make_shop: Callable[..., World]) -> World:
    return make_shop()


def log_in(world: World, password: str = PASSWORD, client: FlaskClient | None = None, **more: str) -> TestResponse:
    return (client or world.client).post("/admin/login", data={"password": password, **more})


def stranger(world: World) -> FlaskClient:
    """A browser that has never visited before."""
    app: Flask = world.client.application
    return app.test_client()


def form_token(client: FlaskClient) -> str:
    found = re.search(r'name="form_token" value="(\w+)"', client.get("/admin").text)
    assert found is not None
    return found[1]


def press(world: World, invoice: Invoice, action: str, client: FlaskClient | None = None, **fields: str) -> str:
    """Press a button. Returns what the next page says."""
    client = client or world.client
    answer = client.post(
        f"/admin/invoices/{invoice.strike_invoice_id}/{action}", data={"form_token": form_token(client), **fields}
    )
    assert answer.status_code == 303, answer.text
    return said(client.get("/admin").text)


def said(page: str) -> str:
    return html.unescape("".join(re.findall(r'<p class="said [a-z]+" role="[a-z]+">(.*?)</p>', page)))


def page_of(world: World, invoice: Invoice) -> str:
    answer = world.client.get(f"/admin/invoices/{invoice.strike_invoice_id}")
    assert answer.status_code == 200
    return html.unescape(answer.text)


def held(world: World) -> Invoice:
    """A refund that waits for the operator."""
    invoice = owe(world)
    send(world)
    assert refund_of(world, invoice).state is RefundState.HELD
    return invoice


def paid(world: World, **fields: object) -> Invoice:
    invoice = world.sell(**fields)
    world.pay(invoice)
    reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)
    return invoice


class TestOff:
    @pytest.mark.parametrize("path", ["/admin", "/admin/login", "/admin/invoices", "/admin/invoices/x"])
    def test_without_a_password_the_page_does_not_exist(self, world: World, path: str) -> None:
        assert world.client.get(path).status_code == 404
        assert world.client.post(path, data={"password": ""}).status_code == 404

    def test_no_other_visitor_gets_a_cookie(self, shop: World) -> None:
        for path in ("/healthz", "/docs", "/admin", "/admin/login"):
            assert "Set-Cookie" not in shop.client.get(path).headers


class TestLogin:
    @pytest.mark.parametrize("path", ["/admin", "/admin/invoices", "/admin/invoices/x?y=z"])
    def test_a_stranger_is_asked_to_log_in(self, shop: World, path: str) -> None:
        answer = shop.client.get(path)

        assert answer.status_code == 303
        assert answer.location.partition("?")[0].endswith("admin/login")

    def test_the_right_password_logs_in(self, shop: World) -> None:
        answer = log_in(shop)

        assert (answer.status_code, answer.location) == (303, "../admin")
        assert shop.client.get("/admin").status_code == 200

    @pytest.mark.parametrize("password", ["", "wrong", PASSWORD[:-1], PASSWORD + " ", "pässwörd", "\x00", "x" * 9_000])
    def test_a_wrong_password_does_not(self, shop: World, password: str) -> None:
        answer = log_in(shop, password)

        assert answer.status_code == 401
        assert "Wrong password" in answer.text
        assert "Set-Cookie" not in answer.headers
        assert shop.client.get("/admin").status_code == 303

    def test_the_cookie_is_limited_to_the_admin_pages(self, make_shop: Callable[..., World]) -> None:
        shop = make_shop(webhook_url="https://pay.shop.example/lnpay/webhook")

        cookies = log_in(shop).headers.getlist("Set-Cookie")

        assert len(cookies) == 2
        for cookie in cookies:
            words = set(cookie.split("; "))
            assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/lnpay/admin"} <= words

    def test_it_also_works_without_https(self, shop: World) -> None:
        assert not any("Secure" in cookie for cookie in log_in(shop).headers.getlist("Set-Cookie"))

    def test_each_login_has_an_id_of_its_own(self, shop: World) -> None:
        log_in(shop)
        first = form_token(shop.client)

        log_in(shop)

        assert form_token(shop.client) != first

    @pytest.mark.parametrize("place", ["invoices", "invoices/0f2b7c1e-93d4", "invoices?state=paid_late&q=a%40b"])
    def test_it_leads_to_the_page_that_was_requested(self, shop: World, place: str) -> None:
        asked = shop.client.get(f"/admin/{place}").location
        page = shop.client.get("/admin/" + asked.partition("admin/")[2]).text
        found = re.search('name="next" value="(.*?)"', page)
        assert found is not None

        assert log_in(shop, next=html.unescape(found[1])).location == f"../admin/{place}"

    @pytest.mark.parametrize(
        "place",
        ["https://evil.example", "//evil.example", "/\\evil.example", "../..//evil.example", "javascript:alert(1)",
         "invoices/../../evil", "invoices\r\nX: y", "%0d%0a", "invoices//evil.example", HOSTILE, "logout"],
    )  # fmt: skip
    def test_it_leads_to_no_other_site(self, shop: World, place: str) -> None:
        assert html.escape(place) not in shop.client.get("/admin/login", query_string={"next": place}).text

        assert log_in(shop, next=place).location == "../admin"

    def test_a_logged_in_operator_is_not_asked_again(self, shop: World) -> None:
        log_in(shop)

        assert shop.client.get("/admin/login").location == "../admin"


class TestSession:
    def test_it_ends_when_it_is_idle(self, shop: World) -> None:
        log_in(shop)
        shop.wait(IDLE.total_seconds() - 1)
        assert shop.client.get("/admin").status_code == 200
        shop.wait(IDLE.total_seconds() - 1)
        assert shop.client.get("/admin").status_code == 200

        shop.wait(IDLE.total_seconds())

        assert shop.client.get("/admin").status_code == 303

    def test_it_ends_after_twelve_hours(self, shop: World) -> None:
        log_in(shop)
        for _ in range(int(LONGEST / timedelta(minutes=20)) - 1):
            shop.wait(20 * 60)
            assert shop.client.get("/admin").status_code == 200

        shop.wait(20 * 60)

        assert shop.client.get("/admin").status_code == 303

    def test_a_changed_password_ends_it(self, shop: World) -> None:
        log_in(shop)
        cookie = shop.client.get_cookie("lnpay_admin", path="/admin")
        assert cookie is not None

        shop.restart(admin_password="another-password-of-the-tests")
        shop.client.set_cookie("lnpay_admin", cookie.value, path="/admin")

        assert shop.client.get("/admin").status_code == 303

    def test_a_copied_cookie_is_worthless_after_the_logout(self, shop: World) -> None:
        log_in(shop)
        cookie = shop.client.get_cookie("lnpay_admin", path="/admin")
        assert cookie is not None
        shop.wait(1)

        shop.client.post("/admin/logout", data={"form_token": form_token(shop.client)})

        assert shop.client.get("/admin").status_code == 303
        thief = stranger(shop)
        thief.set_cookie("lnpay_admin", cookie.value, path="/admin")
        assert thief.get("/admin").status_code == 303
        shop.wait(1)
        log_in(shop)
        assert shop.client.get("/admin").status_code == 200

    @pytest.mark.parametrize("value", ["", "x", "e30.x.y", "eyJpZCI6IngifQ.awPXKQ.NcMO6lPPM7i5fIDkObDeMvhljwA", "ü"])
    def test_a_forged_cookie_is_ignored(self, shop: World, value: str) -> None:
        shop.client.set_cookie("lnpay_admin", value, path="/admin")

        assert shop.client.get("/admin").status_code == 303


def guess_from(shop: World, address: str, password: str) -> int:
    """The status of a login by a stranger with this address."""
    form = {"password": password}
    return stranger(shop).post("/admin/login", data=form, environ_base={"REMOTE_ADDR": address}).status_code


class TestGuessing:
    def test_after_five_wrong_ones_every_try_must_wait_longer(self, shop: World) -> None:
        assert [log_in(shop, "wrong").status_code for _ in range(6)] == [401] * 5 + [429]
        waits = []
        for _ in range(8):
            answer = log_in(shop, "wrong")
            assert answer.status_code == 429
            waits.append(int(answer.headers["Retry-After"]))
            shop.wait(waits[-1])
            assert log_in(shop, "wrong").status_code == 401

        assert waits == [10, 20, 40, 80, 160, 300, 300, 300]

    def test_meanwhile_the_right_password_must_wait_too_but_not_for_long(self, shop: World) -> None:
        for _ in range(5):
            log_in(shop, "wrong")
        refused = log_in(shop)
        assert refused.status_code == 429
        assert "Too many wrong passwords" in refused.text

        shop.wait(10)

        assert log_in(shop).status_code == 303
        assert [log_in(shop, "wrong").status_code for _ in range(5)] == [401] * 5

    def test_processes_share_one_count(self, shop: World) -> None:
        for _ in range(5):
            log_in(shop, "wrong")

        shop.restart()

        assert log_in(shop).status_code == 429

    def test_many_addresses_allow_no_more_guesses(self, shop: World) -> None:
        def guess(number: int) -> int:
            origin = {"REMOTE_ADDR": f"10.0.0.{number}"}
            return stranger(shop).post("/admin/login", data={"password": "x"}, environ_base=origin).status_code

        assert [guess(number) for number in range(51)] == [401] * 50 + [429]

    @pytest.mark.untraced
    def test_an_hour_of_wrong_ones_from_elsewhere_locks_out_no_other(self, shop: World) -> None:
        for _ in range(3600):
            guess_from(shop, "203.0.113.66", "wrong")
            shop.wait(1)

        assert guess_from(shop, "198.51.100.7", "wrong") == 401
        assert guess_from(shop, "198.51.100.7", PASSWORD) == 303
        assert guess_from(shop, "203.0.113.66", "wrong") == 429

    def test_a_hundred_addresses_do_not_lock_out_the_right_password(self, shop: World) -> None:
        answers = [guess_from(shop, f"203.0.113.{number}", "wrong") for number in range(100)]
        assert answers == [401] * 50 + [429] * 50

        assert [guess_from(shop, "198.51.100.7", "mistyped") for _ in range(2)] == [429] * 2
        assert guess_from(shop, "198.51.100.7", PASSWORD) == 303

    def test_meanwhile_each_address_has_few_guesses(self, shop: World) -> None:
        for number in range(60):
            guess_from(shop, f"203.0.113.{number}", "wrong")
        for _ in range(3):
            guess_from(shop, "198.51.100.7", "wrong")

        assert guess_from(shop, "198.51.100.7", PASSWORD) == 429

    def test_a_whole_network_counts_as_one_client(self, shop: World) -> None:
        def guess(number: int) -> int:
            origin = {"REMOTE_ADDR": f"2001:db8::{number:x}"}
            return stranger(shop).post("/admin/login", data={"password": "x"}, environ_base=origin).status_code

        assert [guess(number) for number in range(6)] == [401] * 5 + [429]

    def test_strangers_do_not_lock_out_a_browser_that_logged_in_before(self, shop: World) -> None:
        log_in(shop)
        for _ in range(6):
            log_in(shop, "wrong", stranger(shop))
        assert log_in(shop, PASSWORD, stranger(shop)).status_code == 429

        assert log_in(shop).status_code == 303

    def test_a_known_browser_cannot_be_forged(self, shop: World) -> None:
        for _ in range(5):
            log_in(shop, "wrong")
        shop.client.set_cookie("lnpay_admin_known", "me.0123", path="/admin")

        assert log_in(shop, "wrong").status_code == 429

    def test_wrong_tries_are_forgotten_after_some_hours(self, shop: World) -> None:
        for _ in range(5):
            log_in(shop, "wrong")

        shop.wait(3 * 3600)

        assert [log_in(shop, "wrong").status_code for _ in range(5)] == [401] * 5


class TestForms:
    @pytest.mark.parametrize("token", [None, "", "x", "ü", "0" * 64])
    def test_a_form_without_our_token_does_nothing(self, make_shop: Callable[..., World], token: str | None) -> None:
        shop = make_shop(refund_max_sats=1)
        invoice = held(shop)
        log_in(shop)

        answer = shop.client.post(
            f"/admin/invoices/{invoice.strike_invoice_id}/approve", data={"form_token": token} if token else {}
        )

        assert answer.status_code == 403
        assert refund_of(shop, invoice).state is RefundState.HELD

    def test_a_form_of_another_session_does_nothing(self, make_shop: Callable[..., World]) -> None:
        shop = make_shop(refund_max_sats=1)
        invoice = held(shop)
        other = stranger(shop)
        log_in(shop, client=other)
        log_in(shop)

        path = f"/admin/invoices/{invoice.strike_invoice_id}/approve"

        assert shop.client.post(path, data={"form_token": form_token(other)}).status_code == 403

    @pytest.mark.parametrize(
        "headers",
        [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
         {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}],
    )  # fmt: skip
    @pytest.mark.parametrize("path", ["/admin/login", "/admin/logout"])
    def test_a_form_sent_by_another_site_does_nothing(self, shop: World, path: str, headers: dict[str, str]) -> None:
        log_in(shop)
        fields = {"form_token": form_token(shop.client), "password": PASSWORD}

        assert shop.client.post(path, data=fields, headers=headers).status_code == 403
        assert shop.client.get("/admin").status_code == 200

    @pytest.mark.parametrize("origin", ["http://localhost", "https://pay.shop.example"])
    def test_a_form_of_ours_is_also_accepted_behind_a_proxy(self, make_shop: Callable[..., World], origin: str) -> None:
        shop = make_shop(webhook_url="https://pay.shop.example/webhook")

        answer = shop.client.post("/admin/login", data={"password": PASSWORD}, headers={"Origin": origin})

        assert answer.status_code == 303

    def test_a_form_of_an_ended_session_does_nothing_and_says_so(self, make_shop: Callable[..., World]) -> None:
        shop = make_shop(refund_max_sats=1)
        invoice = held(shop)
        log_in(shop)
        fields = {"form_token": form_token(shop.client)}
        shop.wait(IDLE.total_seconds())

        answer = shop.client.post(f"/admin/invoices/{invoice.strike_invoice_id}/approve", data=fields)

        assert answer.status_code == 303
        assert "nothing was done" in shop.client.get("/admin/" + answer.location.partition("admin/")[2]).text
        assert refund_of(shop, invoice).state is RefundState.HELD

    @pytest.mark.parametrize(
        ("method", "path"),
        [("get", "/admin/logout"), ("post", "/admin"), ("put", "/admin/login"), ("delete", "/admin/invoices"),
         ("get", "/admin/invoices/x/approve"), ("post", "/admin/invoices/x")],
    )  # fmt: skip
    def test_another_method_is_refused(self, shop: World, method: str, path: str) -> None:
        log_in(shop)

        assert getattr(shop.client, method)(path).status_code == 405

    @pytest.mark.parametrize("path", ["x/nonsense", "x/approve", "%00/approve", "%C3%BC/settle"])
    def test_a_button_that_does_not_exist_does_nothing(self, shop: World, path: str) -> None:
        log_in(shop)

        answer = shop.client.post(
            f"/admin/invoices/{path}", data={"form_token": form_token(shop.client), "sure": "1", "note": "n"}
        )

        assert answer.status_code == 404
        assert answer.mimetype == "text/html"


class TestButtons:
    @pytest.mark.parametrize("action", ["approve", "address", "retry", "settle"])
    def test_a_button_for_a_missing_refund_says_so(self, shop: World, action: str) -> None:
        invoice = shop.sell()
        log_in(shop)

        words = press(shop, invoice, action, sure="1", note="n", ln_address=ADDRESS)

        assert words == "Nothing was done: no such refund is owed for this invoice."

    def test_approve(self, make_shop: Callable[..., World]) -> None:
        shop = make_shop(refund_max_sats=1)
        invoice = held(shop)
        log_in(shop)

        assert press(shop, invoice, "approve").startswith("Approved: 19,207 sats")

        assert send(shop) == {RefundState.SENT: 1}
        assert len(payouts(shop)) == 1

    def test_approve_pressed_by_many_at_once_sends_once(self, make_shop: Callable[..., World]) -> None:
        shop = make_shop(refund_max_sats=1)
        invoice = held(shop)
        log_in(shop)
        token = form_token(shop.client)
        cookie = shop.client.get_cookie("lnpay_admin", path="/admin")
        assert cookie is not None
        session = cookie.value

        def approve(_: int) -> bool:
            client = stranger(shop)
            client.set_cookie("lnpay_admin", session, path="/admin")
            client.post(f"/admin/invoices/{invoice.strike_invoice_id}/approve", data={"form_token": token})
            return "Approved" in said(client.get("/admin").text)

        with ThreadPoolExecutor(6) as threads:
            assert sorted(threads.map(approve, range(6))) == [False] * 5 + [True]
        send(shop)
        assert executions(shop) == ["COMPLETED"]

    def test_a_paid_order_is_refunded_once_however_often_the_form_is_sent(self, shop: World) -> None:
        invoice = sell_paid(shop)
        log_in(shop)
        key = re.search(r'name="request_key" value="([^"]+)"', page_of(shop, invoice))
        assert key is not None
        fields: dict[str, Any] = {"request_key": key[1], "amount": "5000", "unit": "sats", "ln_address": ADDRESS}

        for _ in range(2):
            assert press(shop, invoice, "refund", **fields).startswith("Refund created: 5,000 sats")
        assert press(shop, invoice, "refund", **{**fields, "amount": "6000"}).startswith("Nothing was done")

        assert send(shop) == {RefundState.SENT: 1}
        assert len(payouts(shop)) == 1
        assert "everything that is left: 14,207 sats" in page_of(shop, invoice)

    def test_a_claim_link_for_the_customer_and_its_cancellation(self, shop: World) -> None:
        invoice = sell_paid(shop)
        log_in(shop)

        answer = press(shop, invoice, "refund", request_key="k", amount="6.17", unit="today")
        assert "send them the link below" in answer
        (made,) = refunds_of(shop, invoice)
        assert f"/refund/{made.token}" in page_of(shop, invoice)
        assert made.state is RefundState.NEEDS_ADDRESS
        assert press(shop, invoice, "cancel", refund_id=str(made.id)).startswith("Canceled: the refund of")
        assert left_sats(shop, invoice) == 19_207

    @pytest.mark.parametrize(
        "fields",
        [
            {"request_key": ""},
            {"amount": "20000", "unit": "sats"},
            {"amount": "much", "unit": "sale"},
            {"ln_address": "nonsense"},
        ],
    )
    def test_an_impossible_refund_is_not_created(self, shop: World, fields: dict[str, Any]) -> None:
        invoice = sell_paid(shop)
        log_in(shop)

        assert press(shop, invoice, "refund", **{"request_key": "k", **fields}).startswith("Nothing was done")
        assert refunds_of(shop, invoice) == []

    def test_an_unpaid_order_has_no_form_for_a_refund(self, shop: World) -> None:
        invoice = shop.sell()
        log_in(shop)

        assert "Refund this order" not in page_of(shop, invoice)
        assert press(shop, invoice, "refund", request_key="k").startswith("Nothing was done")
        form = {"form_token": form_token(shop.client), "request_key": "k"}
        assert shop.client.post("/admin/invoices/none/refund", data=form).status_code == 404

    def test_each_of_two_refunds_has_its_own_button(self, make_shop: Callable[..., World]) -> None:
        shop = make_shop(refund_max_sats=1)
        invoice = sell_paid(shop)
        log_in(shop)
        for key in ("a", "b"):
            press(shop, invoice, "refund", request_key=key, amount="5000", unit="sats", ln_address=ADDRESS)
        send(shop)
        first, second = refunds_of(shop, invoice)

        assert press(shop, invoice, "approve", refund_id=str(second.id)).startswith("Approved: 5,000 sats")
        assert [one.state for one in refunds_of(shop, invoice)] == [RefundState.HELD, RefundState.REQUESTED]
        assert press(shop, invoice, "cancel", refund_id=str(first.id)).startswith("Canceled")

    def test_a_late_payment_is_accepted_or_refunded_and_a_second_click_changes_nothing(
        self, make_shop: Callable[..., World]
    ) -> None:
        shop = make_shop(late_payments=LatePayments.HOLD)
        kept, returned = owe(shop, correlation_id="kept"), owe(shop, correlation_id="returned")
        log_in(shop)
        assert "Accept: the order is paid" in page_of(shop, kept)

        for _ in range(2):
            assert press(shop, kept, "accept").startswith("Accepted: the order is settled")
        assert press(shop, returned, "approve").startswith("Approved: 19,207 sats")
        assert press(shop, kept, "approve").startswith("Nothing was done")
        assert press(shop, returned, "accept").startswith("Nothing was done")

        assert send(shop) == {RefundState.SENT: 1}
        assert "Accepted late" in page_of(shop, kept)
        assert "You accepted the late payment." in page_of(shop, kept)
        assert shop.invoice(kept.strike_invoice_id).state is InvoiceState.SETTLED

    def test_a_late_payment_without_an_address_is_refunded_once_there_is_one(
        self, make_shop: Callable[..., World]
    ) -> None:
        shop = make_shop(late_payments=LatePayments.HOLD)
        invoice = owe(shop, None)
        log_in(shop)

        assert "needs an address" in press(shop, invoice, "approve")
        assert ADDRESS in press(shop, invoice, "address", ln_address=ADDRESS)
        assert send(shop) == {RefundState.SENT: 1}

    def test_the_price_that_accepted_a_late_payment_is_shown(self, make_shop: Callable[..., World]) -> None:
        shop = make_shop(late_payments=LatePayments.ACCEPT)
        invoice = shop.sell()
        shop.pay(invoice, late_seconds=180)
        expired_pass(shop.backend)
        log_in(shop)

        assert "LATE_PAYMENTS=accept: one bitcoin was worth $64,250.50 then." in page_of(shop, invoice)

    def test_an_address(self, shop: World) -> None:
        invoice = owe(shop, None)
        log_in(shop)
        assert f"/refund/{refund_of(shop, invoice).token}" in shop.client.get("/admin").text

        assert "neither a Lightning address" in press(shop, invoice, "address", ln_address="nonsense")
        assert ADDRESS in press(shop, invoice, "address", ln_address=f" {ADDRESS.upper()} ")

        assert send(shop) == {RefundState.SENT: 1}
        assert [entry.destination for entry in payouts(shop)] == [ADDRESS]

    def test_an_unclear_refund_can_be_decided_after_an_hour(self, shop: World) -> None:
        invoice = owe(shop, "pending@example.com")
        send(shop)
        assert refund_of(shop, invoice).state is RefundState.IN_FLIGHT
        log_in(shop)
        assert "Send it again" not in page_of(shop, invoice)
        assert "A worker may still be sending it" in page_of(shop, invoice)
        assert "try again an hour" in press(shop, invoice, "retry", note="looked", sure="yes")

        shop.wait(BY_HAND_AFTER.total_seconds())
        log_in(shop)
        assert "Unclear refunds" in shop.client.get("/admin").text
        for note in ("", " ", "x" * 501, "\x00"):
            assert "Nothing was done" in press(shop, invoice, "settle", note=note, sure="yes")
        assert "Nothing was done" in press(shop, invoice, "settle", note="looked")
        assert refund_of(shop, invoice).state is RefundState.IN_FLIGHT
        assert "counts as sent" in press(shop, invoice, "settle", note="seen in the dashboard", sure="yes")

        assert refund_of(shop, invoice).state is RefundState.SENT
        assert "The operator settled it: seen in the dashboard" in page_of(shop, invoice)
        assert "Nothing was done" in press(shop, invoice, "settle", note="again", sure="yes")

    def test_retry(self, shop: World) -> None:
        invoice = owe(shop, "fail@example.com")
        send(shop)
        assert refund_of(shop, invoice).state is RefundState.FAILED
        log_in(shop)

        assert "Tried again" in press(shop, invoice, "retry", note="looked", sure="yes", back="overview")

        assert refund_of(shop, invoice).state is RefundState.REQUESTED

    @pytest.mark.parametrize("action", ["retry", "settle"])
    def test_a_clock_that_is_ahead_does_not_let_it_be_decided(self, shop: World, action: str) -> None:
        invoice = owe(shop, "pending@example.com")
        send(shop)
        shop.skew_seconds = BY_HAND_AFTER.total_seconds()
        shop.restart()
        log_in(shop)

        assert "try again an hour" in press(shop, invoice, action, note="looked", sure="yes")

        assert refund_of(shop, invoice).state is RefundState.IN_FLIGHT

    def test_redeliver(self, shop: World) -> None:
        def gone(event: Event) -> None:
            raise ShopGone("the shop answered 410")

        shop.deliver = gone
        invoice = paid(shop)
        send_due(shop.backend.outbox)
        log_in(shop)
        assert "Messages that the shop has not accepted" in shop.client.get("/admin").text
        assert "LNPay stopped sending invoice.settled after 1 attempt: the shop answered 410." in page_of(shop, invoice)
        shop.deliver = shop.post_to_shop

        assert press(shop, invoice, "redeliver") == "1 message is being sent to the shop again."

        send_due(shop.backend.outbox)
        assert len(shop.told()) == 1
        assert "Nothing needs your attention" in shop.client.get("/admin").text

    def test_a_button_leads_back_to_its_page(self, shop: World) -> None:
        invoice = owe(shop, None)
        log_in(shop)
        path = f"/admin/invoices/{invoice.strike_invoice_id}/address"
        fields = {"form_token": form_token(shop.client), "ln_address": "x"}

        assert shop.client.post(path, data={**fields, "back": "overview"}).location == "../../../admin"
        for back in ("", "https://evil.example", "//evil.example"):
            location = shop.client.post(path, data={**fields, "back": back}).location
            assert location == f"../../../admin/invoices/{invoice.strike_invoice_id}"


class TestOverview:
    def test_it_says_if_nothing_needs_attention(self, shop: World) -> None:
        log_in(shop)

        page = shop.client.get("/admin").text

        assert "Nothing needs your attention" in page
        assert page.count("has never run") == 3

    def test_it_shows_the_status_of_workers_provider_and_price(self, shop: World) -> None:
        shop.sell()
        make_pass(shop.backend, "main", lambda _: Summary({}))
        shop.backend.sweep_budget.block(Bucket.OTHER, 3_600)
        make_pass(shop.backend, "expired", lambda _: Summary({}, "the price is not known"))
        shop.wait(90)
        log_in(shop)

        page = shop.client.get("/admin").text

        assert "last ran 1 minute ago" in page
        assert "the price is not known" in page
        assert page.count("has never run") == 1
        assert "Strike asks to wait until" in page
        assert "by CoinGecko" in page
        assert "of 1,000 in ten minutes" in page

    def test_a_worker_in_trouble_for_ten_minutes_needs_the_operator(self, shop: World) -> None:
        log_in(shop)
        for minutes, said in (
            (5, "Nothing needs your attention"),
            (5, "Nothing needs your attention"),
            (0, "1 item needs your attention"),
        ):
            make_pass(shop.backend, "main", lambda _: Summary({}, "Strike does not answer"))
            assert said in shop.client.get("/admin").text
            shop.wait(60 * minutes)

        assert "Stalled work" in shop.client.get("/admin").text
        make_pass(shop.backend, "main", lambda _: Summary({}))
        assert "Nothing needs your attention" in shop.client.get("/admin").text

    def test_hosts_are_named_if_there_are_several(self, shop: World) -> None:
        log_in(shop)
        shown = {}
        for host in ("web-1", "web-2"):
            for _ in range(2):
                with shop.backend.repository.transaction() as tx:
                    tx.heartbeats.beat(Heartbeat("main", shop.backend.clock(), "no answer", host=host))
                shop.wait(700)
            shown[host] = re.findall("Worker: main.*?<", shop.client.get("/admin").text)

        assert shown == {
            "web-1": ["Worker: main<", "Worker: main<"],
            "web-2": [f"Worker: main on {host}<" for host in ("web-1", "web-2", "web-1", "web-2")],
        }

    def test_an_invoice_that_could_not_be_checked_needs_the_operator(self, shop: World) -> None:
        shop.sell()
        shop.wait(4_000)
        log_in(shop)

        page = shop.client.get("/admin").text

        assert "1 item needs your attention" in page
        assert "1 unpaid invoice could not be checked at Strike" in page

    @pytest.mark.parametrize("fault", [{"status": 503}, {"status": 422, "code": "BALANCE_TOO_LOW"}])
    def test_a_refund_that_could_not_be_sent_for_long_needs_the_operator(
        self, shop: World, fault: dict[str, Any]
    ) -> None:
        """Also one of which Strike has said nothing yet: it is still requested."""
        owe(shop)
        shop.fault("POST", "/v1/payment-quotes/*", "error", times=None, **fault)
        for _ in range(3):
            send(shop)
            shop.wait(1_800)
        log_in(shop)

        assert "Refunds that keep failing" in shop.client.get("/admin").text

    def test_a_message_is_shown_once_it_has_waited(self, shop: World) -> None:
        def refuse(event: Event) -> None:
            raise ShopRefused("the shop answered 500")

        shop.deliver = refuse
        paid(shop)
        send_due(shop.backend.outbox)
        log_in(shop)
        assert "Nothing needs your attention" in shop.client.get("/admin").text

        shop.wait(600)

        page = shop.client.get("/admin").text
        assert "1 item needs your attention" in page
        assert "the shop answered 500" in page

    def test_a_failing_refund_is_shown_once_it_has_failed_for_an_hour(self, shop: World) -> None:
        owe(shop, "fail@example.com")
        send(shop)
        log_in(shop)
        assert "Nothing needs your attention" in shop.client.get("/admin").text

        shop.wait(3_600)

        log_in(shop)
        assert "Refunds that keep failing" in shop.client.get("/admin").text

    def test_the_days_are_counted(self, shop: World) -> None:
        paid(shop)
        invoice = owe(shop)
        send(shop)
        log_in(shop)
        today = f"{shop.backend.clock():%Y-%m-%d}"

        page = shop.client.get("/admin").text

        row = re.search(rf'<th scope="row">{today}</th>(.*?)</tr>', page)
        assert row is not None
        sats = f"{invoice.amount_sats:,}"
        assert re.findall("<td>(.*?)</td>", row[1]) == ["1", sats] * 3
        assert page.count('<th scope="row">') == 30
        assert 'class="paid"' in shop.client.get("/admin?chart=sats").text

    def test_each_kind_shows_only_the_oldest_items(self, shop: World) -> None:
        for number in range(12):
            owe(shop, None, correlation_id=f"order-{number}")
        log_in(shop)

        page = shop.client.get("/admin").text

        assert "10+ items need your attention" in page
        assert page.count("Send it there") == 10
        assert "order-0<" in page
        assert "order-11<" not in page


class TestList:
    def orders(self, world: World, query: str) -> list[str]:
        answer = world.client.get(f"/admin/invoices{query}")
        assert answer.status_code == 200
        return re.findall('<span class="order"><b>(.*?)</b>', answer.text)

    @pytest.fixture
    def full(self, shop: World) -> World:
        """One invoice of each fate."""
        paid(shop, correlation_id="paid", ln_address="bob@example.com")
        shop.wait(1)
        owe(shop, correlation_id="late")
        send(shop)
        owe(shop, None, correlation_id="lost")
        shop.wait(1)
        shop.sell(correlation_id="open")
        log_in(shop)
        return shop

    def test_the_newest_come_first(self, full: World) -> None:
        assert self.orders(full, "") == ["open", "lost", "late", "paid"]

    @pytest.mark.parametrize(
        ("query", "orders"),
        [
            ("?state=unpaid", ["open"]),
            ("?state=settled", ["paid"]),
            ("?state=paid_late", ["lost", "late"]),
            ("?refund=sent", ["late"]),
            ("?refund=needs_address", ["lost"]),
            ("?refund=held", []),
            ("?delivery=pending", ["paid"]),
            ("?delivery=delivered", []),
            ("?state=settled&refund=sent", []),
            ("?state=settled&delivery=pending", ["paid"]),
            ("?q=late", ["late"]),
            ("?q=+late+", ["late"]),
            ("?q=lat", []),
            ("?q=bob@example.com", ["paid"]),
            ("?q=BOB@EXAMPLE.COM", ["paid"]),
            ("?q=alice@example.com", ["late"]),
            ("?q=alice@example.com&state=settled", []),
            ("?from=2010-01-01&to=2010-01-02", []),
            ("?from=2020-01-01", ["open", "lost", "late", "paid"]),
            ("?to=2020-01-01", []),
            ("?state=nonsense&refund=%27&delivery=%00&from=x&to=0000-00-00", ["open", "lost", "late", "paid"]),
            ("?before=x&after=9-9x", ["open", "lost", "late", "paid"]),
            ("?q=%00", []),
            ("?q=%F0%9F%98%80", []),
            ("?before=99999999999999999-999999999999999999", ["open", "lost", "late", "paid"]),
            ("?from=9999-12-31&to=9999-12-31", ["open", "lost", "late", "paid"]),
        ],
    )  # fmt: skip
    def test_it_is_filtered_and_searched(self, full: World, query: str, orders: list[str]) -> None:
        assert self.orders(full, query) == orders

    def test_an_invoice_is_found_by_each_of_its_ids(self, full: World) -> None:
        with full.backend.repository.reading() as tx:
            (found,) = [one for one in tx.searches.newest(InvoiceFilter(), 9) if one.correlation_id == "late"]
        invoice = full.invoice(found.strike_invoice_id)
        refund = refund_of(full, invoice)
        names = [invoice.strike_invoice_id, invoice.issue.payment_hash, invoice.issue.bolt11, refund.payment_id]
        names.append(f"lightning:{invoice.issue.bolt11.upper()}")

        for name in names:
            assert self.orders(full, f"?q={name}") == ["late"], name
        (told,) = full.deliveries(full.invoice(self.id_of(full, "paid")))
        assert self.orders(full, f"?q={told.webhook_id}") == ["paid"]

    def id_of(self, world: World, order: str) -> str:
        with world.backend.repository.reading() as tx:
            record = tx.invoices.find_by_correlation_id(order)
        assert isinstance(record, Invoice)
        return record.strike_invoice_id

    def test_pages_lead_through_all_and_back(self, shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lnpay.web.admin.pages.PAGE", 2)
        for number in range(5):
            shop.sell(correlation_id=f"order-{number}")
        log_in(shop)
        seen = []
        query = ""
        for _ in range(3):
            page = shop.client.get(f"/admin/invoices{query}").text
            seen.append(self.orders(shop, query))
            older = re.search(r'href="[./]*admin/invoices(\?[^"]*)" rel="next"', page)
            query = html.unescape(older[1]) if older else "?none"

        assert seen == [["order-4", "order-3"], ["order-2", "order-1"], ["order-0"]]
        assert query == "?none"
        newer = re.search(r'href="[./]*admin/invoices(\?[^"]*)" rel="prev"', page)
        assert newer is not None
        assert self.orders(shop, html.unescape(newer[1])) == ["order-2", "order-1"]

    def test_a_page_keeps_its_filters(self, shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lnpay.web.admin.pages.PAGE", 1)
        for _ in range(2):
            shop.sell(ln_address="bob@example.com")
        log_in(shop)

        page = shop.client.get("/admin/invoices?state=unpaid&q=bob@example.com").text

        older = re.search(r'href="([^"]*)" rel="next"', page)
        assert older is not None
        assert "state=unpaid" in older[1]
        assert "q=bob@example.com" in older[1]


class TestInvoice:
    def test_its_history_is_shown_in_order(self, make_shop: Callable[..., World]) -> None:
        shop = make_shop(refund_max_sats=1, delivery_events=frozenset({"invoice.paid_late", "refund.sent"}))
        invoice = held(shop)
        shop.wait(5)
        log_in(shop)
        press(shop, invoice, "approve")
        send(shop)
        send_due(shop.backend.outbox)

        page = page_of(shop, invoice)

        titles = re.findall("<h3>(.*?)</h3>", page)
        assert titles[:4] == ["Ordered", "Issued", "Payment deadline", "Paid late"]
        assert set(titles[4:7]) == {"Refund owed", "Message owed", "Refund: hold"}
        assert [one for one in titles if "Refund" in one][-2:] == ["Refund: by hand", "Refund sent"]
        assert titles.count("Shop notified") == 2
        assert "1 minute too late" in page
        assert "by CoinGecko" in page

    def test_strikes_answers_are_shown(self, shop: World) -> None:
        invoice = owe(shop, "unknown@example.com")
        send(shop)
        log_in(shop)

        page = page_of(shop, invoice)

        assert "Strike's code" in page
        assert "Trace id" in page

    def test_the_details_of_a_settled_invoice_are_shown(self, shop: World) -> None:
        invoice = paid(shop, description="Two coffees", metadata={"table": "7"})
        log_in(shop)

        page = page_of(shop, invoice)

        for words in ("$12.34", "19,207 sats", "Two coffees", "table", invoice.issue.payment_hash, "in time"):
            assert words in page

    def test_a_pending_payment_and_an_end_without_one_are_shown(self, shop: World) -> None:
        seen, lapsed = shop.sell(), shop.sell()
        with shop.backend.repository.transaction() as tx:
            tx.invoices.mark_seen(seen.id, shop.backend.clock())
            tx.invoices.move(lapsed.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)
            tx.invoices.move(lapsed.id, InvoiceState.EXPIRED, InvoiceState.LAPSED)
        log_in(shop)

        assert "Money seen" in page_of(shop, seen)
        assert "Lapsed" in page_of(shop, lapsed)

    def test_markup_in_an_order_is_escaped(self, shop: World) -> None:
        invoice = owe(shop, HOSTILE, description=HOSTILE, correlation_id='"><script>x', metadata={"<b>": HOSTILE})
        log_in(shop)

        for path in ("/admin", "/admin/invoices", f"/admin/invoices/{invoice.strike_invoice_id}"):
            page = shop.client.get(path).text
            assert "<script" not in page
            assert "<b>:" not in page
            assert ">49" not in page
        page = shop.client.get("/admin/invoices", query_string={"q": HOSTILE}).text
        assert "<script" not in page
        assert html.escape(HOSTILE, quote=False)[2:20] in page

    def test_markup_in_the_shops_answer_is_escaped(self, shop: World) -> None:
        def refuse(event: Event) -> None:
            raise ShopRefused(HOSTILE)

        shop.deliver = refuse
        invoice = paid(shop)
        send_due(shop.backend.outbox)
        shop.wait(700)
        log_in(shop)

        for path in ("/admin", f"/admin/invoices/{invoice.strike_invoice_id}"):
            page = shop.client.get(path).text
            assert "&lt;script&gt;" in page
            assert "<script" not in page

    @pytest.mark.parametrize("name", ["no-such-invoice", "%00", "%C3%BC", "a" * 3000])
    def test_a_missing_invoice_is_a_page_too(self, shop: World, name: str) -> None:
        log_in(shop)

        answer = shop.client.get(f"/admin/invoices/{name}")

        assert (answer.status_code, answer.mimetype) == (404, "text/html")


class TestAddressesWithoutAPage:
    @pytest.mark.parametrize(
        "path", ["nothing", "nothing/at/all", "invoices/x/y/z", "login/", "%00", "%C3%BC", "logout", "a" * 3000]
    )
    def test_it_is_answered_with_a_page(self, shop: World, path: str) -> None:
        log_in(shop)

        answer = shop.client.get(f"/admin/{path}")

        assert answer.status_code in (404, 405)
        assert answer.mimetype == "text/html"
        assert "Back to the overview" in answer.text
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")

    def test_its_link_leads_to_the_overview(self, shop: World) -> None:
        log_in(shop)

        page = shop.client.get("/admin/some/where/deep").text

        link = re.search(r'<a href="([^"]+)">Back to the overview', page)
        assert link is not None
        assert urljoin("/admin/some/where/deep", link[1]) == "/admin"

    @pytest.mark.parametrize("path", ["/administrator", "/nothing", "/admin-panel/x"])
    def test_other_addresses_keep_their_json(self, shop: World, path: str) -> None:
        answer = shop.client.get(path, headers={"Accept": "text/html"})

        assert answer.status_code == 404
        assert answer.get_json()["code"] == "not_found"


class TestEveryPage:
    PATHS = (
        "/admin",
        "/admin?chart=sats",
        "/admin/login",
        "/admin/invoices",
        "/admin/invoices/x",
        "/admin/invoices/{id}",
        "/admin/connections",
        "/admin/connect",
        "/admin/connect?permissions=btcpay.store.canviewinvoices",
    )

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("is_in", [True, False])
    def test_it_runs_no_script_loads_nothing_foreign_and_is_not_cached(
        self, shop: World, path: str, is_in: bool
    ) -> None:
        invoice = owe(shop, None)
        if is_in:
            log_in(shop)

        answer = shop.client.get(path.format(id=invoice.strike_invoice_id))

        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(
            r"<script|<style|\sstyle=|\son\w+=|https?://(?!lnpay\.test|localhost(/refund|<))", answer.text
        )

    def test_no_secret_is_in_it(self, make_shop: Callable[..., World]) -> None:
        shop = make_shop(api_keys=("a-shop-key-for-the-tests",), delivery_secret="whsec_" + "A" * 32)
        key = {"Authorization": "Bearer a-shop-key-for-the-tests"}
        made = shop.client.post("/generate-invoice", json={"amount_fiat": "12.34"}, headers=key).get_json()
        invoice = shop.invoice(made["data"]["invoice"]["invoiceId"])
        shop.pay(invoice, late_seconds=180)
        reconcile_invoice(shop.backend.settlement, invoice.strike_invoice_id)
        log_in(shop)
        secrets = {*NEVER_SHOWN, PASSWORD, "whsec_" + "A" * 32, refund_of(shop, invoice).idempotency_key}

        for path in self.PATHS:
            page = shop.client.get(path.format(id=invoice.strike_invoice_id)).text
            assert not [secret for secret in secrets if secret in page], path

    def test_its_styles_are_served(self, shop: World) -> None:
        log_in(shop)
        for path in ("/admin", "/admin/invoices"):
            for link in re.findall('rel="stylesheet" href="(.*?)"', shop.client.get(path).text):
                answer = shop.client.get("/" + html.unescape(link).replace("../", ""))
                assert (answer.status_code, answer.mimetype) == (200, "text/css")

    def test_an_unavailable_database_is_reported(self, shop: World) -> None:
        log_in(shop)
        with shop.backend.repository.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE heartbeats RENAME TO away")

        answer = shop.client.get("/admin")

        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert "The database does not answer" in answer.text
        assert "heartbeats" not in answer.text

    def test_a_bug_is_reported_without_its_text(self, shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
        log_in(shop)
        monkeypatch.setattr(shop.backend.refund_sender.repository, "reading", None)

        answer = shop.client.get("/admin")

        assert answer.status_code == 500
        assert "Something went wrong here" in answer.text
        assert "NoneType" not in answer.text
