"""GET /invoices/<id> and its pictures: what the shop may know, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from xml.etree import ElementTree

import pytest
import zxingcpp
from PIL import Image
from werkzeug.test import TestResponse

from lnpay.deliveries.send import send_due
from lnpay.domain.model import Invoice
from lnpay.invoices.settle import reconcile_invoice
from tests.web.answers import assert_error
from tests.world import World

SECRETS = ("token", "bolt11", "ln_address", "alice@example.com", "idempotency", "webhook_id", "rate")


def state(world: World, invoice: Invoice) -> dict[str, object]:
    answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}")
    assert answer.status_code == 200
    return dict(answer.get_json())


def settle(world: World, invoice: Invoice, *, late_seconds: float = 0) -> None:
    world.pay(invoice, late_seconds=late_seconds)
    reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)


class TestKeys:
    KEY = "a-shop-key-for-the-tests"

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x"])
    def test_the_state_needs_a_key_where_keys_are_set(
        self, make_world: Callable[..., World], header: str | None
    ) -> None:
        world = make_world(api_keys=("another-shop-key-1", self.KEY))
        invoice = self.sell(world)
        headers = {} if header is None else {"Authorization": header}

        for name in (invoice["invoiceId"], "00000000-0000-0000-0000-000000000000"):
            assert_error(world.client.get(f"/invoices/{name}", headers=headers), 401, "unauthorized")

    def test_with_a_key_it_is_shown(self, make_world: Callable[..., World]) -> None:
        world = make_world(api_keys=("another-shop-key-1", self.KEY))
        invoice = self.sell(world)

        shown = world.client.get(f"/invoices/{invoice['invoiceId']}", headers={"Authorization": f"Bearer {self.KEY}"})

        assert shown.get_json()["state"] == "unpaid"

    @pytest.mark.parametrize("kind", ["png", "svg"])
    def test_a_customer_sees_the_qr_code_without_one(self, make_world: Callable[..., World], kind: str) -> None:
        world = make_world(api_keys=(self.KEY,))

        assert world.client.get(f"/invoices/{self.sell(world)['invoiceId']}/qr.{kind}").status_code == 200

    def sell(self, world: World) -> dict[str, str]:
        answer = world.client.post(
            "/generate-invoice", json={"amount_fiat": "1"}, headers={"Authorization": f"Bearer {self.KEY}"}
        )
        return dict(answer.get_json()["data"]["invoice"])


class TestTheState:
    def test_an_open_invoice(self, world: World) -> None:
        invoice = world.sell(correlation_id="order-1")

        told = state(world, invoice)

        expires_at = world.backend.clock() + timedelta(seconds=120)
        assert {name: told[name] for name in told if name != "metadata"} == {
            "invoice_id": invoice.strike_invoice_id,
            "correlation_id": "order-1",
            "order_id": "order-1",
            "accepted_late": False,
            "state": "unpaid",
            "amount_fiat": "12.34",
            "currency": "usd",
            "amount_sats": invoice.amount_sats,
            "expiration_time": expires_at.isoformat(),
            "settled_at": None,
            "delivery": None,
            "refund": None,
        }

    def test_a_settled_invoice_whose_shop_is_not_yet_notified(self, world: World) -> None:
        invoice = world.sell()
        settle(world, invoice)

        told = state(world, invoice)

        assert (told["state"], told["settled_at"]) == ("settled", world.backend.clock().isoformat())
        assert told["delivery"] == {"state": "pending", "attempts": 0}

    @pytest.mark.parametrize(("status", "wanted"), [(200, "delivered"), (500, "pending"), (410, "abandoned")])
    def test_the_outcome_of_the_delivery(self, world: World, status: int, wanted: str) -> None:
        invoice = world.sell()
        settle(world, invoice)
        world.simulator.shop.answer_with(status)

        send_due(world.backend.outbox)

        assert state(world, invoice)["delivery"] == {"state": wanted, "attempts": 1}

    @pytest.mark.parametrize(
        ("address", "wanted"), [("alice@example.com", "requested"), (None, "needs_address"), ("x", "needs_address")]
    )
    def test_a_late_payment_shows_its_refund(self, world: World, address: str | None, wanted: str) -> None:
        invoice = world.sell(ln_address=address)
        settle(world, invoice, late_seconds=200)

        told = state(world, invoice)

        assert (told["state"], told["refund"], told["settled_at"]) == ("paid_late", {"state": wanted}, None)

    def test_nothing_in_it_is_a_secret(self, world: World) -> None:
        invoice = world.sell(ln_address="alice@example.com")
        settle(world, invoice, late_seconds=200)

        text = world.client.get(f"/invoices/{invoice.strike_invoice_id}").text

        assert not [word for word in (*SECRETS, invoice.token) if word in text]

    def test_it_is_never_kept_by_a_cache(self, world: World) -> None:
        invoice = world.sell()

        answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}")

        assert answer.headers["Cache-Control"] == "no-store"

    def test_a_read_changes_nothing_and_makes_no_call(self, world: World) -> None:
        invoice = world.sell()
        made = len(world.calls())

        for _ in range(3):
            state(world, invoice)

        assert len(world.calls()) == made
        assert world.invoice(invoice.strike_invoice_id) == invoice


class TestPictures:
    def test_the_png_is_read_as_the_payment_uri(self, world: World) -> None:
        invoice = world.sell()

        answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}/qr.png")

        assert (answer.status_code, answer.mimetype) == (200, "image/png")
        (code,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(answer.data)))
        assert code.text.lower() == f"lightning:{invoice.issue.bolt11}".lower()

    def test_the_svg_contains_no_script(self, world: World) -> None:
        invoice = world.sell()

        answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}/qr.svg")

        assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(answer.text).iter()}  # noqa: S314
        assert tags == {"svg", "title", "rect", "path"}

    @pytest.mark.parametrize("name", ["qr.png", "qr.svg"])
    def test_a_browser_may_keep_them(self, world: World, name: str) -> None:
        invoice = world.sell()

        answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}/{name}")

        assert "max-age=3600" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


class TestUnknownIds:
    @pytest.mark.parametrize("end", ["", "/qr.png", "/qr.svg"])
    @pytest.mark.parametrize(
        "invoice_id",
        [
            "unknown", "11111111-2222-4333-8444-555555555555", "%00", "a%00b", "%ff", "%F0%9F%8D%95", "ключ",
            "x" * 3_000, "' OR 1=1 --", "%25", "..", "%2e%2e", "0", "-1", "NULL", "%0d%0aX-Bad:1",
        ],
    )  # fmt: skip
    def test_is_a_404(self, world: World, invoice_id: str, end: str) -> None:
        answer = world.client.get(f"/invoices/{invoice_id}{end}")

        assert_error(answer, 404, "not_found")
        assert "X-Bad" not in answer.headers

    @pytest.mark.parametrize("name", ["token", "correlation_id"])
    def test_other_ids_of_an_invoice_do_not_find_it(self, world: World, name: str) -> None:
        invoice = world.sell(correlation_id="order-1")

        assert_error(world.client.get(f"/invoices/{getattr(invoice, name)}"), 404, "not_found")

    @pytest.mark.parametrize("path", ["", "/qr.png", "/qr.svg"])
    def test_another_method_is_a_405(self, world: World, path: str) -> None:
        assert_error(world.client.post(f"/invoices/x{path}"), 405, "method_not_allowed")


class TestFinding:
    def find(self, world: World, **query: str) -> TestResponse:
        return world.client.get("/invoices", query_string=query)

    def test_a_paid_order_whose_answer_was_lost_is_found_by_the_shops_id(self, world: World) -> None:
        invoice = world.sell(correlation_id="order #1/ä")
        settle(world, invoice)

        answer = self.find(world, correlation_id=" order #1/ä ")

        assert (answer.status_code, answer.get_json()) == (200, state(world, invoice))
        assert answer.get_json()["state"] == "settled"

    def test_every_attempt_of_an_order_is_listed_the_newest_first(self, world: World) -> None:
        world.sell(correlation_id="1042")
        for number in (2, 3):
            world.sell(correlation_id=f"1042-{number}", order_id="1042")
        world.sell(correlation_id="1043")

        told = self.find(world, order_id="1042").get_json()

        assert told["order_id"] == "1042"
        assert [one["correlation_id"] for one in told["invoices"]] == ["1042-3", "1042-2", "1042"]
        assert {one["order_id"] for one in told["invoices"]} == {"1042"}
        assert told["invoices"][2] == state(world, world.invoice(told["invoices"][2]["invoice_id"]))

    def test_an_order_that_is_not_known_has_no_attempts(self, world: World) -> None:
        assert self.find(world, order_id="x").get_json() == {"order_id": "x", "invoices": []}

    def test_both_ids_must_match(self, world: World) -> None:
        invoice = world.sell(correlation_id="1042-1", order_id="1042")

        assert self.find(world, correlation_id="1042-1", order_id="1042").get_json() == state(world, invoice)
        assert_error(self.find(world, correlation_id="1042-1", order_id="1043"), 404, "not_found")

    @pytest.mark.parametrize("query", [{"correlation_id": ""}, {"correlation_id": "x"}, {"correlation_id": "a\0"}])
    def test_what_is_not_there_is_a_404(self, world: World, query: dict[str, str]) -> None:
        assert_error(self.find(world, **query), 404, "not_found")

    @pytest.mark.parametrize("name", ["correlation_id", "order_id"])
    @pytest.mark.parametrize("text", ["%00", "%ED%A0%80", "%FF", "x" * 5_000, "%E2%80%AE"])
    def test_no_text_breaks_it(self, world: World, name: str, text: str) -> None:
        assert world.client.get(f"/invoices?{name}={text}").status_code in (200, 404)

    def test_a_draft_is_no_invoice_yet(self, world: World) -> None:
        world.fault("POST", "/v1/invoices", "unreachable", times=None)
        world.ask(correlation_id="order-1", order_id="1042")

        assert_error(self.find(world, correlation_id="order-1"), 404, "not_found")
        assert self.find(world, order_id="1042").get_json()["invoices"] == []

    def test_it_needs_a_key_where_keys_are_set(self, make_world: Callable[..., World]) -> None:
        world = make_world(api_keys=("a-shop-key-for-the-tests",))
        key = {"Authorization": "Bearer a-shop-key-for-the-tests"}

        for query in ({"correlation_id": "x"}, {"order_id": "x"}):
            assert_error(self.find(world, **query), 401, "unauthorized")
        assert world.client.get("/invoices?order_id=x", headers=key).status_code == 200
