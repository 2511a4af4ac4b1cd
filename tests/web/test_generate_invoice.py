"""POST /generate-invoice: the answer that existing shops read, and clear refusals of everything else."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import zxingcpp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from werkzeug.test import TestResponse

from lnpay.deliveries.send import send_due
from lnpay.domain.bolt11 import decode
from lnpay.domain.model import Invoice
from lnpay.domain.states import LatePayments
from lnpay.domain.text import blank_unprintable, fit_description, on_one_line
from lnpay.invoices.settle import reconcile_invoice
from lnpay.refunds.by_hand import approve
from lnpay.runtime.worker_passes import expired_pass
from lnpay.sandbox.config import SimulatorConfig
from tests.web.answers import assert_error
from tests.world import World

KEY = "a-shop-key-for-the-tests"


def post(world: World, body: bytes | str, content_type: str = "application/json") -> TestResponse:
    return world.client.post("/generate-invoice", data=body, content_type=content_type)


def qr_text(png: bytes) -> str:
    """What an independent reader sees in a QR code."""
    (code,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(png)))
    return str(code.text)


class TestTheAnswer:
    def test_it_has_what_the_existing_shop_reads(self, world: World) -> None:
        answer = world.ask(description="Two coffees", correlation_id="order-1", ln_address="alice@example.com")

        assert answer.status_code == 200
        body = answer.get_json()
        assert body["status"] == "success"
        assert body["data"].keys() == {
            "invoice", "quote", "qr_code", "expiration_time", "payment_uri", "checkout_url",
        }  # fmt: skip
        assert body["data"]["invoice"]["correlationId"] == "order-1"
        assert body["data"]["invoice"]["description"] == "Two coffees"

    def test_invoice_and_quote_are_the_providers_own_objects(self, world: World) -> None:
        data = world.ask().get_json()["data"]

        at_strike = world.simulator.invoices.by_id[data["invoice"]["invoiceId"]]
        assert data["invoice"]["amount"] == {"amount": at_strike.amount.text(), "currency": "BTC"}
        assert data["quote"]["lnInvoice"] == at_strike.quotes[0].payment_request
        assert data["quote"]["sourceAmount"] == data["invoice"]["amount"]

    def test_the_expiration_time_has_an_offset_and_is_in_two_minutes(self, world: World) -> None:
        data = world.ask().get_json()["data"]

        expires_at = datetime.fromisoformat(data["expiration_time"])
        assert expires_at.utcoffset() == timedelta()
        assert expires_at == world.backend.clock() + timedelta(seconds=120)

    def test_the_qr_code_is_read_as_the_payment_uri(self, world: World) -> None:
        data = world.ask().get_json()["data"]

        assert data["payment_uri"] == "lightning:" + data["quote"]["lnInvoice"].upper()
        assert qr_text(base64.b64decode(data["qr_code"])).lower() == data["payment_uri"].lower()

    def test_the_checkout_url_leads_to_the_page(self, world: World) -> None:
        data = world.ask().get_json()["data"]

        page = world.client.get(data["checkout_url"])

        assert data["checkout_url"].startswith("http://localhost/checkout/")
        assert (page.status_code, page.mimetype) == (200, "text/html")

    def test_the_checkout_url_uses_the_public_address(self, make_world: Callable[..., World]) -> None:
        world = make_world(webhook_url="https://pay.shop.example/webhook")

        assert world.ask().get_json()["data"]["checkout_url"].startswith("https://pay.shop.example/checkout/")

    def test_the_same_order_gives_the_same_answer(self, world: World) -> None:
        first, again = world.ask(correlation_id="order-1"), world.ask(correlation_id="order-1")

        assert first.get_json() == again.get_json()

    def test_each_order_without_an_id_is_a_new_invoice(self, world: World) -> None:
        ids = {world.ask().get_json()["data"]["invoice"]["invoiceId"] for _ in range(3)}

        assert len(ids) == 3

    def test_an_answer_is_never_cached(self, world: World) -> None:
        assert world.ask().headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize(
        ("sent", "amount"),
        [("0,01", "0.01"), ("12.3", "12.30"), (12, "12.00"), (12.34, "12.34"), (" 5 ", "5.00"), ("1e2", "100.00")],
    )
    def test_amounts_are_read_as_shops_write_them(self, world: World, sent: object, amount: str) -> None:
        answer = world.ask(amount_fiat=sent)

        invoice_id = answer.get_json()["data"]["invoice"]["invoiceId"]
        assert world.client.get(f"/invoices/{invoice_id}").get_json()["amount_fiat"] == amount

    @pytest.mark.parametrize(
        "text", ["Grüße, 你好 🍕", "<script>alert(1)</script>", "' OR 1=1 --", "x" * 200, "%s {0}"]
    )
    def test_a_description_is_passed_on_unchanged(self, world: World, text: str) -> None:
        data = world.ask(description=text, correlation_id=text[:40]).get_json()["data"]

        assert (data["invoice"]["description"], data["invoice"]["correlationId"]) == (text, text[:40])

    @pytest.mark.parametrize("name", ["ln_address", "description", "correlation_id"])
    @pytest.mark.parametrize("nothing", [None, ""])
    def test_an_empty_field_counts_as_absent(self, world: World, name: str, nothing: str | None) -> None:
        answer = world.ask(**{name: nothing})

        assert answer.status_code == 200
        assert "warnings" not in answer.get_json()["data"]


class TestRefundAddresses:
    @pytest.mark.parametrize(
        "address",
        ["alice@example.com", "lightning:Alice@Example.com", "LNURL1DP68GURN8GHJ7URP0YHX27RPD4CXCEF0WQ7X0SKT"],
    )
    def test_a_valid_address_causes_no_warning(self, world: World, address: str) -> None:
        assert "warnings" not in world.ask(ln_address=address).get_json()["data"]

    @pytest.mark.parametrize(
        "address",
        ["your_lightning_address", "alice@", "@example.com", "alice", "a b@c.de", "x" * 5000, "a\x00@b.de", "<>"],
    )
    def test_an_invalid_address_never_prevents_the_sale(self, world: World, address: str) -> None:
        answer = world.ask(ln_address=address)

        (warning,) = answer.get_json()["data"]["warnings"]
        assert answer.status_code == 200
        assert "ln_address" in warning

    def test_the_warning_is_given_again_with_the_same_invoice(self, world: World) -> None:
        first = world.ask(ln_address="nonsense", correlation_id="order-1")
        again = world.ask(ln_address="nonsense", correlation_id="order-1")

        assert first.get_json() == again.get_json()


BAD_AMOUNTS: list[object] = [
    None, True, False, [], {}, ["5"], {"amount": 5}, "", " ", "abc", "five", "0", 0, "0.00", -1, "-1", "-0.01", "−5",
    "+5", "NaN", "nan", "Infinity", "-inf", "1e999", "1e400", "1e-400", "0.001", 0.001, "1.234", "1,234", "1.234,56",
    "1,234.56", "1 000", "1_000", "0x10", "$5", "5 USD", "٣", "５", "1" * 41, "9" * 30, 10**100, "1\x002", "1\n2",
    "5\ud800", "1e", "e5", ".", ".5", "5.", "--5", "5;drop table invoices", "1/2", "9e15", 10**15,
]  # fmt: skip


class TestBadAmounts:
    @pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=lambda amount: ascii(amount)[:30])
    def test_a_bad_amount_is_a_400_that_names_the_field(self, world: World, amount: object) -> None:
        answer = post(world, json.dumps({"amount_fiat": amount}))

        body = answer.get_json()
        assert answer.status_code == 400, answer.text
        assert body["errors"].keys() <= {"amount_fiat"}
        assert "amount_fiat" in body["message"] or body["message"].startswith("is ")
        assert (world.count_rows(), world.calls("POST")) == (0, [])

    @pytest.mark.parametrize("amount", BAD_AMOUNTS[:24], ids=lambda amount: ascii(amount)[:30])
    def test_the_error_has_the_standard_shape(self, world: World, amount: object) -> None:
        assert_error(post(world, json.dumps({"amount_fiat": amount})), 400, "invalid_request")

    @pytest.mark.parametrize("number", ["1e99999999999999999999", "-1e99999999999999999999", "1e-99999999999999999999"])
    def test_a_number_out_of_range_is_a_400(self, world: World, number: str) -> None:
        answer = post(world, f'{{"amount_fiat": {number}}}')

        assert_error(answer, 400, "invalid_json")
        assert "too large or too small" in answer.get_json()["message"]

    @pytest.mark.parametrize("field", ["amount_fiat", "expires_in", "correlation_id", "metadata", "unknown"])
    def test_a_number_with_a_long_exponent_does_not_occupy_the_server(self, world: World, field: str) -> None:
        began = time.monotonic()

        answer = post(world, f'{{"amount_fiat": "5.00", "{field}": 1e200000}}')

        assert_error(answer, 400, "invalid_json")
        assert time.monotonic() - began < 0.5

    @pytest.mark.parametrize("currency", ["jpy", "clp", "krw", "vnd"])
    def test_a_currency_without_decimals_takes_none(self, make_world: Callable[..., World], currency: str) -> None:
        world = make_world(currency=currency)

        assert_error(world.ask(amount_fiat="1000.5"), 400, "invalid_request")
        assert world.ask(amount_fiat="1000.0").status_code == 200

    def test_a_currency_with_three_decimals_takes_three(self, make_world: Callable[..., World]) -> None:
        world = make_world(currency="kwd")

        assert world.ask(amount_fiat="1.2340").status_code == 200
        assert world.ask(amount_fiat=1.234).status_code == 200
        assert world.ask(amount_fiat="1.234").status_code == 400
        assert_error(world.ask(amount_fiat="1.2345"), 400, "invalid_request")

    def test_less_than_a_sat_is_a_400(self, make_world: Callable[..., World]) -> None:
        world = make_world(currency="idr")
        world.simulator.rates.bitcoin_usd = Decimal(1_000_000)

        assert_error(world.ask(amount_fiat="0.01"), 400, "invalid_request")
        assert world.count_rows() == 0


class TestBadFields:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("description", 5), ("description", ["a"]), ("description", True),
            ("correlation_id", 5.5), ("correlation_id", "x" * 41), ("correlation_id", "a\x00b"),
            ("correlation_id", 10**40), ("correlation_id", -(10**39)), ("correlation_id", "a\nb"),
            ("correlation_id", "a\udfffb"), ("correlation_id", {}), ("correlation_id", True), ("ln_address", 5),
            ("order_id", 5.5), ("order_id", "x" * 41), ("order_id", "a\x00b"), ("order_id", False), ("order_id", []),
            ("ln_address", []), ("ln_address", {"a": 1}), ("ln_address", False),
            ("currency", "xxx"), ("currency", 5), ("expires_in", 29), ("expires_in", 3_601), ("expires_in", True),
            ("expires_in", "600"), ("expires_in", 60.5), ("amount", "5"),
            ("__proto__", {}), ("", "x"),
        ],
        ids=lambda value: ascii(value)[:30],
    )  # fmt: skip
    def test_a_bad_field_is_a_400_that_names_it(self, world: World, field: str, value: object) -> None:
        answer = post(world, json.dumps({"amount_fiat": "5.00", field: value}))

        errors = assert_error(answer, 400, "invalid_request")
        assert errors.keys() == {field or "body"}
        assert (world.count_rows(), world.calls()) == (0, [])

    @pytest.mark.parametrize("number", ["1042.5", "1042.0", "1e3", "true"])
    def test_an_id_that_is_not_a_whole_number_says_what_is_accepted(self, world: World, number: str) -> None:
        answer = post(world, f'{{"amount_fiat": "5.00", "correlation_id": {number}}}')

        assert assert_error(answer, 400, "invalid_request") == {"correlation_id": "must be a string, or a whole number"}

    @pytest.mark.parametrize(
        ("field", "limit"), [("correlation_id", 40), ("order_id", 40), ("return_url", 2_000), ("retry_url", 2_000)]
    )
    def test_a_field_that_is_too_long_says_how_long_it_may_be(self, world: World, field: str, limit: int) -> None:
        answer = world.ask(**{field: "https://shop.example/" + "x" * limit})

        assert assert_error(answer, 400, "invalid_request") == {field: f"is longer than {limit:,} characters"}

    @pytest.mark.parametrize("number", [10**40, 10**400])
    def test_a_number_that_is_too_long_for_an_id_says_how_long_it_may_be(self, world: World, number: int) -> None:
        answer = post(world, f'{{"amount_fiat": "5.00", "correlation_id": {number}}}')

        assert assert_error(answer, 400, "invalid_request") == {"correlation_id": "is longer than 40 characters"}

    def test_a_missing_amount_is_named(self, world: World) -> None:
        assert assert_error(post(world, "{}"), 400, "invalid_request") == {"amount_fiat": "is missing"}

    def test_every_mistake_is_named_at_once(self, world: World) -> None:
        answer = world.ask(amount_fiat=[], description=5, extra=1)

        assert assert_error(answer, 400, "invalid_request").keys() == {"amount_fiat", "description", "extra"}

    def test_a_field_name_with_a_lone_surrogate_is_a_400(self, world: World) -> None:
        assert_error(post(world, r'{"amount_fiat": "5.00", "\ud800": 1}'), 400, "invalid_request")

    def test_the_last_value_of_a_repeated_field_counts(self, world: World) -> None:
        assert post(world, '{"amount_fiat": "x", "amount_fiat": "5.00"}').status_code == 200


class TestTexts:
    """No text in the name of a product or order prevents the sale."""

    @pytest.mark.parametrize(
        "text",
        [
            "🎉" * 160, "🎉" * 200, "€" * 200, "👨\u200d👩\u200d👧" * 40, "e" + "\u0301" * 199,
            "line\r\nline\tend", "a\x00b\x1b", "half \ud83d", "\u202eמחיר", "\u2028", "", "  a" + " " * 300,
            *("x" * size for size in (200, 201, 639, 640, 641)), "é" * 320, "👨\u200d👩\u200d👧\u200d👦" * 30,
            "क्षि" * 60, "e" + "\u0301" * 300, "🇩🇪" * 120, "<b>" * 15_000,
        ],
        ids=lambda text: f"{ascii(text)[:30]}-{len(text)}",
    )  # fmt: skip
    def test_any_description_is_sold_and_reaches_the_wallet(self, world: World, text: str) -> None:
        invoice = world.sell(correlation_id="order-1", description=text)

        shown = decode(invoice.issue.bolt11).description or ""
        assert shown == fit_description(on_one_line(blank_unprintable(text)))
        assert len(invoice.order.description or "") <= 200
        assert world.sell(correlation_id="order-1", description=text) == invoice
        assert world.client.get(f"/checkout/{invoice.token}").status_code == 200

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text(st.characters(), max_size=200), name=st.text(st.characters(), max_size=40))
    def test_no_text_breaks_the_sale(self, world: World, text: str, name: str) -> None:
        answer = world.ask(description=text, order_id=name, ln_address=text, metadata={"a": "b"})

        if answer.status_code == 400:
            assert assert_error(answer, 400, "invalid_request").keys() == {"order_id"}
            answer = world.ask(description=text)
        assert answer.status_code == 200, answer.text

    @pytest.mark.parametrize(("number", "text"), [(1042, "1042"), (0, "0"), (-7, "-7"), (10**39, "1" + "0" * 39)])
    def test_a_whole_number_is_accepted_as_an_id(self, world: World, number: int, text: str) -> None:
        invoice = world.sell(correlation_id=number, order_id=number)

        assert (invoice.correlation_id, invoice.order_id) == (text, text)
        assert world.sell(correlation_id=text) == invoice

    def test_a_lone_surrogate_in_an_address_does_not_prevent_the_sale(self, world: World) -> None:
        answer = world.ask(ln_address="alice\ud83d@example.com")

        assert answer.status_code == 200
        assert answer.get_json()["data"]["warnings"]


class TestBadBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"", b" ", b"not json", b"{", b'{"amount_fiat": "5.00"', b"{'amount_fiat': 5}", b"null", b"true", b"5",
            b'"5.00"', b"[]", b'[{"amount_fiat": "5.00"}]', b"[" * 60_000, b'{"a":' * 10_000, b"\x00", b"\xff\xfe",
            b'{"amount_fiat": NaN}', b'{"amount_fiat": Infinity}', b'{"amount_fiat": -Infinity}',
            b'{"amount_fiat": "5.00"} {}', b'{"amount_fiat": ' + b"9" * 5_000 + b"}", b'{"amount_fiat": 05}',
            b"amount_fiat=5.00", b"<xml/>", b'{"amount_fiat": "\xff"}', b"\xef\xbb\xbf{",
        ],
        ids=lambda body: ascii(body)[:30],
    )  # fmt: skip
    def test_a_body_that_is_not_a_json_object_is_a_400(self, world: World, body: bytes) -> None:
        assert_error(post(world, body), 400, "invalid_json")
        assert (world.count_rows(), world.calls()) == (0, [])

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (b"", "the body is empty"), (b" \n", "the body is empty"), (b"{'amount_fiat': 5}", "line 1, column 2"),
            (b'{"amount_fiat": "5.00",\n "a": }', "line 2, column 7"), (b'{"amount_fiat": "\xff"}', "send it as UTF-8"),
            (b'{"amount_fiat": NaN}', "NaN is not a JSON number"), (b"[" * 60_000, "nested too deeply"),
            (b'{"amount_fiat": ' + b"9" * 5_000 + b"}", "too large or too small"),
        ],
        ids=lambda value: ascii(value)[:30],
    )  # fmt: skip
    def test_the_message_says_where_the_body_is_wrong(self, world: World, body: bytes, why: str) -> None:
        assert why in post(world, body).get_json()["message"]

    @pytest.mark.parametrize("size", [64 * 1024 + 1, 5_000_000])
    def test_a_body_that_is_too_large_is_a_413(self, world: World, size: int) -> None:
        assert_error(post(world, b'{"a": "' + b"x" * size), 413, "payload_too_large")

    def test_a_hundred_thousand_brackets_are_a_413(self, world: World) -> None:
        assert_error(post(world, b"[" * 100_000), 413, "payload_too_large")

    @pytest.mark.parametrize(
        "content_type", ["", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
    )
    def test_another_content_type_is_a_415(self, world: World, content_type: str) -> None:
        assert_error(post(world, '{"amount_fiat": "5.00"}', content_type), 415, "unsupported_media_type")
        assert world.count_rows() == 0

    @pytest.mark.parametrize(
        "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"]
    )
    def test_json_under_its_other_names_is_fine(self, world: World, content_type: str) -> None:
        assert post(world, '{"amount_fiat": "5.00"}', content_type).status_code == 200

    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
    def test_another_method_is_a_405(self, world: World, method: str) -> None:
        answer = world.client.open("/generate-invoice", method=method)

        assert_error(answer, 405, "method_not_allowed")
        assert "POST" in answer.headers["Allow"]


class TestConflicts:
    def test_an_order_that_is_paid_is_a_409_that_says_so_and_where_to_look(self, world: World) -> None:
        invoice = world.sell(correlation_id="order-1")
        pay_and_tell(world, invoice)

        about = conflict(world.ask(correlation_id="order-1"), "already_paid")

        assert about == {
            "state": "settled",
            "invoice_id": invoice.strike_invoice_id,
            "correlation_id": "order-1",
            "checkout_url": f"http://localhost/checkout/{invoice.token}",
        }
        assert world.client.get(about["checkout_url"]).status_code == 200

    def test_a_paid_order_is_never_advised_to_be_sold_again(self, world: World) -> None:
        pay_and_tell(world, world.sell(correlation_id="order-1", order_id="1042"))

        for fields in (
            {"correlation_id": "order-1"},
            {"correlation_id": "order-1", "amount_fiat": "99"},
            {"correlation_id": "order-1", "description": "Tea"},
            {"correlation_id": "order-2", "order_id": "1042"},
            {"correlation_id": "1042"},
        ):
            answer = world.ask(**fields)
            assert conflict(answer, "already_paid")["state"] == "settled"
            assert not re.search(r"another attempt|new correlation_id", answer.get_json()["message"])

    @pytest.mark.parametrize("has_pass", [False, True])
    def test_an_expired_order_is_a_409(self, world: World, has_pass: bool) -> None:
        invoice = world.sell(correlation_id="order-1")
        world.wait(300)
        if has_pass:
            expired_pass(world.backend)

        about = conflict(world.ask(correlation_id="order-1", amount_fiat="99"), "expired")

        assert (about["state"], about["invoice_id"]) == ("expired", invoice.strike_invoice_id)

    def test_an_order_that_was_paid_late_is_a_409(self, world: World) -> None:
        invoice = world.sell(correlation_id="order-1")
        pay_and_tell(world, invoice, late_seconds=200)

        assert conflict(world.ask(correlation_id="order-1"), "paid_late")["state"] == "paid_late"

    def test_an_undecided_late_payment_does_not_suggest_selling_again(self, world: World) -> None:
        world.restart(late_payments=LatePayments.HOLD)
        invoice = world.sell(correlation_id="order-1")
        pay_and_tell(world, invoice, late_seconds=200)

        cancel = f"/invoices/{invoice.strike_invoice_id}/cancel"
        undecided = [world.ask(correlation_id="order-1"), world.client.post(cancel)]
        approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
        decided = [world.ask(correlation_id="order-1"), world.client.post(cancel)]

        for answer in undecided + decided:
            assert conflict(answer, "paid_late")["state"] == "paid_late"
        assert ["do not sell the order again" in one.get_json()["message"] for one in undecided] == [True, True]
        assert ["is, or will be, refunded" in one.get_json()["message"] for one in decided] == [True, True]

    def test_an_order_with_a_pending_payment_is_not_sold_again(self, world: World) -> None:
        invoice = world.sell(correlation_id="order-1")
        world.simulator.invoices.by_id[invoice.strike_invoice_id].state = "PENDING"
        reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)

        assert world.ask(correlation_id="order-1").status_code == 200
        assert conflict(world.ask(correlation_id="order-1", amount_fiat="99"), "payment_pending")["state"] == "unpaid"
        world.wait(300)
        assert conflict(world.ask(correlation_id="order-1"), "payment_pending")["state"] == "expired"

    def test_an_open_invoice_of_a_different_amount_is_a_409(self, world: World) -> None:
        invoice = world.sell(correlation_id="order-1")

        answer = world.ask(correlation_id="order-1", amount_fiat="99")

        about = conflict(answer, "amount_differs")
        assert (about["state"], about["invoice_id"]) == ("unpaid", invoice.strike_invoice_id)
        assert "12.34 usd, not 99.00 usd" in answer.get_json()["message"]

    def test_a_request_that_differs_otherwise_is_a_409_that_names_the_fields(self, world: World) -> None:
        world.ask(correlation_id="order-1")

        answer = world.ask(correlation_id="order-1", description="Tea", metadata={"cart": 1}, order_id="1042")

        assert conflict(answer, "correlation_id_taken")["state"] == "unpaid"
        assert "description, metadata, order_id" in answer.get_json()["message"]


class TestAttempts:
    def test_an_order_that_expired_is_bought_again_under_its_order_id(self, world: World) -> None:
        first = world.sell(correlation_id="4001-1", order_id="4001")
        world.wait(300)
        second = world.sell(correlation_id="4001-2", order_id="4001")
        pay_and_tell(world, second)

        assert [one["data"]["order_id"] for one in world.told()] == ["4001"]
        assert (first.order_id, second.order_id) == ("4001", "4001")
        conflict(world.ask(correlation_id="4001-1", order_id="4001"), "already_paid")
        conflict(world.ask(correlation_id="4001-3", order_id="4001"), "already_paid")

    def test_a_first_attempt_without_an_order_id_counts_for_its_order(self, world: World) -> None:
        pay_and_tell(world, world.sell(correlation_id="4001"))

        about = conflict(world.ask(correlation_id="4001-2", order_id="4001"), "already_paid")

        assert about["correlation_id"] == "4001"

    @pytest.mark.parametrize("nothing", ["", "  ", None])
    def test_an_empty_order_id_is_as_if_omitted(self, world: World, nothing: str | None) -> None:
        first = world.sell(correlation_id="4001", order_id=nothing)

        assert world.sell(correlation_id="4001").strike_invoice_id == first.strike_invoice_id
        assert world.client.get("/invoices?order_id=").get_json()["invoices"] == []
        pay_and_tell(world, first)
        conflict(world.ask(correlation_id="4001-2", order_id="4001"), "already_paid")

    def test_an_order_id_equal_to_the_correlation_id_is_ignored(self, world: World) -> None:
        first = world.ask(correlation_id="order-1")

        assert world.ask(correlation_id="order-1", order_id="order-1").get_json() == first.get_json()

    def test_other_orders_are_sold(self, world: World) -> None:
        pay_and_tell(world, world.sell(correlation_id="4001-1", order_id="4001"))

        assert world.ask(correlation_id="4002-1", order_id="4002").status_code == 200


def pay_and_tell(world: World, invoice: Invoice, *, late_seconds: float = 0) -> None:
    """The customer pays, LNPay notices it and the shop is notified."""
    world.pay(invoice, late_seconds=late_seconds)
    reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)
    send_due(world.backend.outbox)


def conflict(answer: TestResponse, code: str) -> dict[str, Any]:
    """Check that an answer is a 409 with `code`. Returns what it says about the conflicting invoice."""
    assert (answer.status_code, answer.get_json()["code"]) == (409, code), answer.text
    names = ("state", "invoice_id", "correlation_id", "checkout_url")
    return {name: answer.get_json()[name] for name in names}


class TestProviderTrouble:
    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            ({"kind": "error", "status": 503, "times": None}, 503, "provider_unavailable"),
            ({"kind": "unreachable"}, 503, "provider_unavailable"),
            ({"kind": "rate_limited"}, 503, "provider_unavailable"),
            ({"kind": "lost_request", "times": None}, 503, "provider_unavailable"),
            ({"kind": "html403"}, 502, "provider_rejected"),
            ({"kind": "error", "status": 401, "code": "UNAUTHORIZED"}, 502, "provider_rejected"),
            ({"kind": "error", "status": 422, "code": "USER_CURRENCY_UNAVAILABLE"}, 502, "provider_rejected"),
            ({"kind": "error", "status": 422, "code": "AMOUNT_TOO_HIGH"}, 400, "invalid_request"),
        ],
        ids=lambda value: str(value.get("status", value["kind"])) if isinstance(value, dict) else "",
    )
    def test_the_providers_message_is_not_disclosed(
        self, world: World, fault: dict[str, Any], status: int, code: str
    ) -> None:
        world.fault("POST", "/v1/invoices", **fault)

        assert_error(world.ask(), status, code)

    def test_a_wait_that_the_provider_asks_for_is_passed_on(self, world: World) -> None:
        world.fault("POST", "/v1/invoices", "rate_limited", seconds=42)

        answer = world.ask()

        assert_error(answer, 503, "provider_unavailable")
        assert answer.headers["Retry-After"] == "42"

    def test_without_a_price_nothing_is_sold_or_written(self, world: World) -> None:
        for path in ("/coingecko/*", "/coinbase/*", "/v1/rates/*"):
            world.fault("GET", path, "error", status=503, times=None)

        assert_error(world.ask(), 503, "rate_unavailable")
        assert world.count_rows() == 0

    def test_an_account_that_cannot_invoice_bitcoin_is_a_502(self, make_world: Callable[..., World]) -> None:
        world = make_world(config=SimulatorConfig(invoiceable_currencies=["USD"]))

        assert_error(world.ask(), 502, "provider_rejected")

    def test_a_payment_request_of_a_different_amount_is_a_502(self, world: World) -> None:
        other = world.sell(amount_fiat="99.00").issue.bolt11
        world.fault("POST", "/v1/invoices/*/quote", "field_changed", field="lnInvoice", value=other)

        assert_error(world.ask(), 502, "provider_rejected")


class TestApiKeys:
    @pytest.fixture
    def locked(self, make_world: Callable[..., World]) -> World:
        return make_world(api_keys=("another-shop-key-1", KEY))

    @pytest.mark.parametrize(
        "header",
        [
            f"Bearer {KEY}",
            f"bearer {KEY}",
            f"Bearer  {KEY} ",
            "Bearer another-shop-key-1",
            f"token {KEY}",
            f"TOKEN {KEY}",
        ],
    )
    def test_a_valid_key_is_accepted(self, locked: World, header: str) -> None:
        answer = locked.client.post(
            "/generate-invoice", json={"amount_fiat": "5.00"}, headers={"Authorization": header}
        )

        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "header",
        [
            None, "", "Bearer", "Bearer ", "Bearer wrong", KEY, f"Basic {KEY}", f"Tokens {KEY}", f"Bearer {KEY}x",
            f"Bearer {KEY[:-1]}", f"Bearer {KEY.upper()}", "Bearer ключ", "Bearer \xff\xfe", "Bearer " + "x" * 5_000,
            f"Bearer {KEY},another-shop-key-1", f"Bearer {KEY} {KEY}",
        ],
    )  # fmt: skip
    def test_anything_else_is_a_401_and_nothing_happens(self, locked: World, header: str | None) -> None:
        # Servers hand headers over as Latin-1; these bytes are what a client would have sent.
        headers = {} if header is None else {"Authorization": header.encode().decode("latin-1")}

        answer = locked.client.post("/generate-invoice", json={"amount_fiat": "5.00"}, headers=headers)

        assert_error(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (locked.count_rows(), locked.calls()) == (0, [])

    def test_a_stranger_learns_nothing_about_the_body(self, locked: World) -> None:
        assert_error(post(locked, "not json"), 401, "unauthorized")


class TestOrigins:
    @pytest.fixture
    def shop(self, make_world: Callable[..., World]) -> World:
        return make_world(cors_origins=("https://shop.example",), api_keys=(KEY,))

    def preflight(self, world: World, origin: str) -> TestResponse:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type",
        }
        return world.client.options("/generate-invoice", headers=headers)

    def test_a_page_of_the_shop_may_call(self, shop: World) -> None:
        answer = self.preflight(shop, "https://shop.example")

        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "https://shop.example.evil.com",
            "http://shop.example",
            "null",
            "https://x.shop.example",
        ],
    )
    def test_a_page_of_another_site_may_not(self, shop: World, origin: str) -> None:
        assert "Access-Control-Allow-Origin" not in self.preflight(shop, origin).headers

    def test_without_the_setting_no_page_may(self, world: World) -> None:
        assert "Access-Control-Allow-Origin" not in self.preflight(world, "https://shop.example").headers

    def test_errors_can_be_read_by_the_page_too(self, shop: World) -> None:
        answer = shop.client.post("/generate-invoice", json={}, headers={"Origin": "https://shop.example"})

        assert_error(answer, 401, "unauthorized")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"

    def test_the_customers_pages_allow_no_other_origin(self, shop: World) -> None:
        answer = shop.client.get("/checkout/unknown", headers={"Origin": "https://shop.example"})

        assert "Access-Control-Allow-Origin" not in answer.headers


ANY_TEXT = st.text(st.characters(), max_size=60)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(["amount_fiat", "ln_address", "description", "correlation_id", "return_url", "metadata"])
LIKELY_AMOUNTS = st.decimals(allow_nan=True, allow_infinity=True).map(str) | st.integers() | st.floats()
BODIES = st.fixed_dictionaries(
    {"amount_fiat": LIKELY_AMOUNTS | st.just("5.00") | ANY_JSON},
    optional={
        "ln_address": ANY_TEXT | ANY_JSON,
        "description": ANY_TEXT | ANY_JSON,
        "correlation_id": st.sampled_from(["a", "b"]) | ANY_TEXT | ANY_JSON,
        "metadata": st.dictionaries(ANY_TEXT, ANY_JSON, max_size=3) | ANY_JSON,
        "return_url": ANY_TEXT,
    },
)


class TestFuzz:
    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(body=BODIES | st.dictionaries(FIELDS | ANY_TEXT, ANY_JSON, max_size=4) | ANY_JSON)
    def test_any_json_is_at_most_refused(self, world: World, body: object) -> None:
        answer = post(world, json.dumps(body))

        assert answer.status_code in (200, 400, 409, 413), answer.text
        assert answer.get_json()["status"] in ("success", "error")

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(body=st.binary(max_size=200))
    def test_any_bytes_are_at_most_refused(self, world: World, body: bytes) -> None:
        answer = post(world, body)

        assert answer.status_code in (200, 400)
