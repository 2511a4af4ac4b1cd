"""GET /invoices/<id> and its pictures: what the shop may know, and nothing else."""

from __future__ import annotations

import io
from datetime import timedelta
from xml.etree import ElementTree

import pytest
import zxingcpp
from PIL import Image

from lnpay.deliveries import send_due
from lnpay.model import Invoice
from lnpay.settlement import reconcile_invoice
from tests.web.answers import assert_error
from tests.world import World

SECRETS = ("token", "bolt11", "ln_address", "alice@example.com", "idempotency", "webhook_id", "rate")


def state(world: World, invoice: Invoice) -> dict[str, object]:
    answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}")
    assert answer.status_code == 200
    return dict(answer.get_json())


def settle(world: World, invoice: Invoice, *, late_seconds: float = 0) -> None:
    world.pay(invoice, late_seconds=late_seconds)
    reconcile_invoice(world.backend.ledger, invoice.strike_invoice_id)


class TestTheState:
    def test_an_open_invoice(self, world: World) -> None:
        invoice = world.sell(correlation_id="order-1")

        told = state(world, invoice)

        expires_at = world.backend.clock() + timedelta(seconds=120)
        assert {name: told[name] for name in told if name != "metadata"} == {
            "invoice_id": invoice.strike_invoice_id,
            "correlation_id": "order-1",
            "state": "unpaid",
            "amount_fiat": "12.34",
            "currency": "usd",
            "amount_sats": invoice.amount_sats,
            "expiration_time": expires_at.isoformat(),
            "settled_at": None,
            "delivery": None,
            "refund": None,
        }

    def test_a_settled_invoice_whose_shop_is_not_told_yet(self, world: World) -> None:
        invoice = world.sell()
        settle(world, invoice)

        told = state(world, invoice)

        assert (told["state"], told["settled_at"]) == ("settled", world.backend.clock().isoformat())
        assert told["delivery"] == {"state": "pending", "attempts": 0}

    @pytest.mark.parametrize(("status", "wanted"), [(200, "delivered"), (500, "pending"), (410, "abandoned")])
    def test_how_telling_the_shop_went(self, world: World, status: int, wanted: str) -> None:
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

    def test_asking_changes_nothing_and_calls_nobody(self, world: World) -> None:
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

    def test_the_svg_is_a_drawing_and_nothing_that_runs(self, world: World) -> None:
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
    def test_other_names_of_an_invoice_do_not_find_it(self, world: World, name: str) -> None:
        invoice = world.sell(correlation_id="order-1")

        assert_error(world.client.get(f"/invoices/{getattr(invoice, name)}"), 404, "not_found")

    @pytest.mark.parametrize("path", ["", "/qr.png", "/qr.svg"])
    def test_another_method_is_a_405(self, world: World, path: str) -> None:
        assert_error(world.client.post(f"/invoices/x{path}"), 405, "method_not_allowed")
