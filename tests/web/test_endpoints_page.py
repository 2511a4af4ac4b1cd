"""Webhook endpoints on the operator's pages: their last answers, and their messages about an invoice."""

from __future__ import annotations

import html
import re

from lnpay.deliveries.endpoints import delete_endpoint, send_test
from lnpay.deliveries.send import send_due
from lnpay.domain.states import EndpointForm, EndpointSetter
from tests.endpoint_shop import add_endpoint, open_shops
from tests.web.test_admin import HOSTILE, log_in, make_shop, shop
from tests.world import World

__all__ = ["make_shop", "shop"]


def page(world: World, path: str) -> str:
    """The text of a page."""
    log_in(world)
    answer = world.client.get(path)
    assert answer.status_code == 200, answer.text
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def test_the_list_shows_each_endpoint_and_its_last_answer(shop: World) -> None:
    shops = open_shops(shop)
    assert "There are no webhook endpoints." in page(shop, "/admin/connections")
    good = add_endpoint(shop, "https://good.test/hook", EndpointForm.STANDARD)
    bad = add_endpoint(shop, "https://bad.test/hook", events=["InvoiceSettled"], secret="a-secret-of-the-shop")
    add_endpoint(shop, "https://8.8.8.8/hook", by=EndpointSetter.KEY, events=[], is_enabled=False)
    shops.answers["https://bad.test/hook"] = lambda _: 403
    for one in (good, bad):
        send_test(shop.backend.outbox, one.public_id)

    text = page(shop, "/admin/connections")

    assert "https://good.test/hook enabled 200" in text
    assert "https://bad.test/hook enabled 403" in text
    assert "Last error: the shop answered 403" in text
    assert "https://8.8.8.8/hook disabled" in text
    assert "address set by an API key" in text
    assert "Never called" in text
    assert "a-secret-of-the-shop" not in text


def test_an_address_is_text_and_not_markup(shop: World) -> None:
    add_endpoint(shop, "https://shop.test/?" + HOSTILE.replace(" ", "%20"))

    log_in(shop)
    answer = shop.client.get("/admin/connections")

    assert HOSTILE.replace(" ", "%20") not in answer.text
    assert HOSTILE.replace(" ", "%20") in html.unescape(answer.text)


def test_an_invoice_shows_the_messages_of_each_endpoint(shop: World) -> None:
    open_shops(shop)
    endpoint = add_endpoint(shop, "https://shop.test/hook")
    invoice = shop.sell()
    send_due(shop.backend.outbox)

    text = page(shop, f"/admin/invoices/{invoice.strike_invoice_id}")
    assert "InvoiceCreated" in text
    assert "https://shop.test/hook" in text

    second = shop.sell()
    delete_endpoint(shop.backend.outbox, endpoint.public_id)
    text = page(shop, f"/admin/invoices/{second.strike_invoice_id}")
    assert "a deleted webhook endpoint" in text
    assert "is not sent: its endpoint was deleted" in text
