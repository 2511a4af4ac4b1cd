"""Pages and files that plugins link to, and the setting that leaves all of it out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

import pytest

from lnpay.domain.errors import Conflict, NotFound
from lnpay.domain.states import InvoiceState
from lnpay.invoices.mark_invalid import mark_invalid
from lnpay.invoices.settle import reconcile_invoice
from lnpay.runtime.worker_passes import main_pass
from tests.greenfield.shop import Plugin
from tests.world import World

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


class TestPaymentPage:
    def test_the_link_leads_to_the_payment_page(self, plugin: Plugin, world: World) -> None:
        made = plugin.create()

        for path in (f"/i/{made['id']}", f"/i/{made['id']}/", f"/i/{made['id']}/BTC-LN", f"/i/{made['id']}/BTC-LN/"):
            answer = world.client.get(path)

            assert answer.status_code == 302
            assert urljoin(path, answer.headers["Location"]) == f"/checkout/{plugin.row(made).token}"

    def test_the_shop_of_the_invoice_and_the_origins_of_the_settings_may_frame_it(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world(cors_origins=("https://other.example",))
        plugin = Plugin.connect(world)
        made = plugin.create(checkout={"redirectURL": "https://Shop.example:443/thanks"})

        framed = world.client.get(f"/invoice?id={made['id']}&view=modal").headers["Content-Security-Policy"]
        alone = world.client.get(f"/checkout/{plugin.row(made).token}").headers["Content-Security-Policy"]

        assert framed.endswith("frame-ancestors https://other.example https://shop.example")
        assert alone.endswith("frame-ancestors https://other.example")

    def test_without_a_link_to_the_shop_no_page_may_frame_it(self, plugin: Plugin, world: World) -> None:
        made = plugin.create()

        answer = world.client.get(f"/i/{made['id']}/BTC-LN?view=modal")

        assert answer.headers["Content-Security-Policy"].endswith("frame-ancestors 'none'")

    @pytest.mark.parametrize("path", ["/i/unknown", "/invoice?id=unknown&view=modal", "/invoice", "/i/%00"])
    def test_a_customer_with_a_wrong_link_sees_a_page(self, world: World, path: str) -> None:
        page = world.client.get(path, headers=BROWSER)

        assert (page.status_code, page.mimetype) == (404, "text/html")

    @pytest.mark.parametrize("language", ["xx-YY", "", "de_AT", 7])
    def test_an_unknown_language_is_ignored(self, plugin: Plugin, world: World, language: Any) -> None:
        answer = plugin.call(
            "POST", "stores/{store}/invoices", {"amount": "1", "checkout": {"defaultLanguage": language}}
        )
        if language == 7:
            assert answer.status_code == 422
            return

        location = world.client.get(f"/i/{answer.get_json()['id']}").headers["Location"]

        assert location.endswith("?lang=de") == (language == "de_AT")

    def test_a_customer_without_a_script_is_returned_to_the_shop_too(self, plugin: Plugin, world: World) -> None:
        link = "https://shop.example/{InvoiceId}?o=%7BOrderId%7D&q=a"
        made = plugin.create(
            metadata={"orderId": "a b/ü"}, checkout={"redirectURL": link, "redirectAutomatically": True}
        )
        plugin.pay(made)
        main_pass(world.backend)

        page = world.client.get(f"/checkout/{plugin.row(made).token}").text

        filled = f"https://shop.example/{made['id']}?o=a%20b%2F%C3%BC&amp;q=a"
        assert f'<meta http-equiv="refresh" content="3;url={filled}">' in page
        assert f'data-return="{filled}"' in page
        assert f'href="{filled}"' in page
        assert plugin.read(made)["checkout"]["redirectURL"] == link

    def test_it_is_not_returned_before_the_payment(self, plugin: Plugin, world: World) -> None:
        made = plugin.create(checkout={"redirectURL": "https://shop.example/", "redirectAutomatically": True})

        page = world.client.get(f"/checkout/{plugin.row(made).token}").text

        assert "data-return" not in page
        assert "url=https" not in page


class TestScript:
    def test_any_page_may_load_it(self, world: World) -> None:
        for path in ("/modal/btcpay.js", "/modal/btcpay.js?ver=2.8.0"):
            answer = world.client.get(path)

            assert (answer.status_code, answer.mimetype) == (200, "text/javascript")
            assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


class TestStaff:
    def test_a_browser_is_led_to_the_operators_page(self, make_world: Callable[..., World]) -> None:
        world = make_world(admin_password="a long password")
        plugin = Plugin.connect(world)
        made = plugin.create()

        answer = world.client.get(f"/invoices/{made['id']}", headers=BROWSER)

        assert answer.status_code == 302
        assert answer.headers["Location"].endswith(f"admin/invoices/{made['id']}")
        program = world.client.get(f"/invoices/{made['id']}", headers={"Authorization": f"Bearer {plugin.key}"})
        assert program.get_json()["state"] == "unpaid"

    def test_without_an_operators_page_it_stays_the_native_answer(self, world: World) -> None:
        invoice = world.sell()

        answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}", headers=BROWSER)

        assert answer.get_json()["state"] == "unpaid"


def test_it_can_be_switched_off(make_world: Callable[..., World]) -> None:
    world = make_world(greenfield=False)
    plugin = Plugin.connect(world)
    invoice_id = world.client.post(
        "/generate-invoice", json={"amount_fiat": "1"}, headers={"Authorization": f"Bearer {plugin.key}"}
    ).get_json()["data"]["invoice"]["invoiceId"]

    for path in ("/api/v1/health", "/api/v1/stores", f"/i/{invoice_id}", "/invoice", "/modal/btcpay.js"):
        assert world.client.get(path).status_code == 404
    document = world.client.get("/openapi.json").get_json()
    assert [path for path in document["paths"] if path.startswith("/api/v1")] == []
    assert "CreateInvoiceRequest" not in document["components"]["schemas"]


class TestMarkInvalidUnderFire:
    """`mark_invalid` while a payment is settled."""

    def test_an_unknown_invoice(self, world: World) -> None:
        with pytest.raises(NotFound):
            mark_invalid(world.backend.settlement, "unknown")

    def test_a_payment_that_is_settled_first_wins(self, plugin: Plugin, world: World) -> None:
        made = plugin.create()
        plugin.pay(made)
        reconcile_invoice(world.backend.settlement, made["id"])

        with pytest.raises(Conflict):
            mark_invalid(world.backend.settlement, made["id"])

        assert plugin.row(made).state is InvoiceState.SETTLED

    def test_a_payment_after_the_mark_is_late_however_often_it_is_settled(self, plugin: Plugin, world: World) -> None:
        made = plugin.create()
        world.wait(30)
        mark_invalid(world.backend.settlement, made["id"])
        world.wait(30)
        plugin.pay(made)

        for _ in range(2):
            reconcile_invoice(world.backend.settlement, made["id"])

        row = plugin.row(made)
        assert row.state is InvoiceState.PAID_LATE
        assert row.marked_invalid_at is not None
        assert row.expires_at == row.marked_invalid_at < row.issue.opened_at + timedelta(minutes=15)
        assert world.refund(row) is not None


def test_the_store_has_the_shops_name(make_world: Callable[..., World]) -> None:
    named, nameless = make_world(shop_name="Books & Sea"), make_world()

    assert [Plugin.connect(world).get("stores")[0]["name"] for world in (named, nameless)] == ["Books & Sea", "LNPay"]
