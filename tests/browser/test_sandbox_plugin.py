"""The sandbox's demo shop as one that sells through a BTCPay plugin, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import PHONE, assert_accessible, assert_fits, assert_stage, picture
from tests.endpoint_shop import FOUR
from tests.sandbox_process import RunningSandbox, running_sandbox

PLUGIN, NATIVE = "a BTCPay plugin (Greenfield)", "LNPay's own API"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), CURRENCY="usd") as running:
        yield running


@pytest.fixture
def open_page(sandbox: RunningSandbox, new_context: Callable[..., BrowserContext]) -> Iterator[Callable[..., Page]]:
    """Open a page of the sandbox: open_page("/shop", viewport=PHONE). None may complain in the console."""
    complaints: list[str] = []

    def open_one(path: str, **options: Any) -> Page:
        page = new_context(**options).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{sandbox.world}{path}")
        return page

    yield open_one
    assert complaints == []


def order(page: Page, sandbox: RunningSandbox, product: str) -> tuple[str, str]:
    """Order one product; the browser is led to the payment page. Returns the order's page and the payment request."""
    page.goto(f"{sandbox.world}/shop")
    page.get_by_role("button", name=PLUGIN).click()
    page.get_by_role("button", name=f"Add {product} to cart").click()
    page.get_by_role("button", name="Order and pay").click()
    expect(page).to_have_url(re.compile(f"^{re.escape(sandbox.url)}/"))
    shop = requests.get(f"{sandbox.world}/shop", timeout=30).text
    path = re.findall(r"/shop/orders/[^\"]+", shop)[0]
    request = re.search("lnbc[0-9a-z]+", requests.get(sandbox.world + path, timeout=30).text)
    assert request is not None
    return sandbox.world + path, request[0]


def told(sandbox: RunningSandbox, order_page: str) -> list[str]:
    """The types of the events about an order that the shop has taken."""
    order_id = order_page.rpartition("/")[2]
    taken = [one["json"] for one in requests.get(f"{sandbox.world}/_control/deliveries", timeout=30).json()]
    about = [one for one in taken if (one.get("metadata") or {}).get("orderId") == order_id]
    return [one["type"] for one in about]


def assert_says(page: Page, heading: str) -> None:
    expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=15_000)


def test_a_plugin_sells(sandbox: RunningSandbox, open_page: Callable[..., Page]) -> None:
    page = open_page("/shop", viewport=PHONE)
    order_page, payment_request = order(page, sandbox, "Croissant")
    assert_stage(page, "waiting")

    sandbox.pay(payment_request)

    # The plugin asks that the payment page leads back by itself.
    expect(page).to_have_url(order_page, timeout=20_000)
    assert_says(page, "Paid. Thank you!")
    assert told(sandbox, order_page) == ["InvoiceCreated", *FOUR]
    page.get_by_role("link", name="All orders").click()
    expect(page.get_by_role("button", name=PLUGIN)).to_have_attribute("aria-pressed", "true")
    for name in FOUR:
        expect(page.get_by_role("cell", name=name, exact=True).first).to_be_attached()


def test_a_late_payment_is_not_shipped(sandbox: RunningSandbox, open_page: Callable[..., Page]) -> None:
    page = open_page("/shop", viewport=PHONE)
    order_page, _ = order(page, sandbox, "Teapot")
    page.goto(order_page)
    assert_says(page, "Waiting for the payment")
    sandbox.wait(150)
    assert_says(page, "The time to pay is over")
    expect(page.get_by_text("InvoiceExpired")).to_be_visible(timeout=15_000)

    page.get_by_role("link", name="Pay all the same, too late").click()
    page.get_by_role("button", name="Pay now").click()
    expect(page.locator(".notice").first).to_contain_text("Paid.")
    page.goto(order_page)
    page.get_by_role("link", name="See the payment page").click()
    assert_says(page, "Where should your money go?")

    page.goto(order_page)
    assert_says(page, "The time to pay is over")
    assert told(sandbox, order_page) == ["InvoiceCreated", "InvoiceExpired"]


def test_the_shop_speaks_its_own_api_again(sandbox: RunningSandbox, open_page: Callable[..., Page]) -> None:
    page = open_page("/shop")
    page.get_by_role("button", name=PLUGIN).click()
    page.get_by_role("button", name=NATIVE).click()
    expect(page.get_by_role("button", name=NATIVE)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Add Candle to cart").click()
    page.get_by_role("button", name="Order and pay").click()
    assert_says(page, "Waiting for the payment")
    page.get_by_text("Payment request", exact=True).click()

    sandbox.pay(page.locator("details .code").inner_text())

    assert_says(page, "Paid. Thank you!")


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_its_pages_are_for_everybody(
    sandbox: RunningSandbox, open_page: Callable[..., Page], look: str, size: str
) -> None:
    viewport = PHONE if size == "phone" else {"width": 1280, "height": 800}
    page = open_page("/shop", viewport=viewport, color_scheme=look)
    paid, payment_request = order(page, sandbox, "Green tea")
    sandbox.pay(payment_request)
    over, _ = order(page, sandbox, "Cappuccino")
    sandbox.wait(150)
    page.goto(paid)
    assert_says(page, "Paid. Thank you!")
    page.goto(over)
    assert_says(page, "The time to pay is over")
    page.goto(f"{sandbox.world}/shop")
    page.get_by_role("button", name="Add Croissant to cart").click()

    for name, url in {
        "shop": f"{sandbox.world}/shop",
        "cart": f"{sandbox.world}/shop/cart",
        "paid": paid,
        "over": over,
    }.items():
        page.goto(url)
        picture(page, f"plugin-{name}-{size}-{look}")
        assert_accessible(page)
        assert_fits(page)
