"""The product tour of a new user who has started `python main.py --sandbox`, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import PHONE, assert_accessible, assert_fits, assert_stage, picture
from tests.sandbox_process import RunningSandbox, running_sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    """One for all tests: each has orders of its own."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), CURRENCY="usd") as running:
        yield running


@dataclass
class Visitor:
    """A visitor with a browser. complaints: the browser's errors about our pages."""

    sandbox: RunningSandbox
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """A tab with one of the sandbox's pages."""
        page = self.context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{self.sandbox.world}{path}")
        return page

    def order(self, product: str = "Croissant", address: str = "ann@wallet.example") -> Page:
        """A tab with the page of a new order for one product."""
        page = self.open("/shop")
        page.get_by_role("button", name=f"Add {product} to cart").click()
        page.get_by_label("Lightning address for refunds").fill(address)
        page.get_by_role("button", name="Order and pay").click()
        expect(page.get_by_role("heading", name="Waiting for the payment")).to_be_visible()
        return page

    def order_at_once(self, product: str) -> tuple[str, str]:
        """The path of a new order's page and its payment request, for who has seen how one orders."""
        form: dict[str, str | float | bool] = {"product": product, "amount": "4.90", "address": "ann@wallet.example"}
        page = self.context.request.post(f"{self.sandbox.world}/shop", form=form)
        request = re.search("lnbc[0-9a-z]+", page.text())
        assert request is not None
        return page.url.removeprefix(self.sandbox.world), request[0]

    def refunds(self) -> int:
        """How many have come into the wallet."""
        page = self.open("/wallet")
        count = page.get_by_role("group", name="Refunds received").locator("td.plus").count()
        page.close()
        return count


@pytest.fixture
def visit(sandbox: RunningSandbox, new_context: Callable[..., BrowserContext]) -> Iterator[Callable[..., Visitor]]:
    """Make visitors; `options` are Playwright's for a context. None may find an error in the console."""
    made: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        made.append(Visitor(sandbox, new_context(**options)))
        return made[-1]

    yield make
    assert [visitor.complaints for visitor in made if visitor.complaints] == []


def payment_code(checkout: Page) -> str:
    """The text that a customer copies from a payment page."""
    checkout.get_by_text("Show the payment code as text").click()
    return checkout.get_by_label("Payment code").input_value()


def assert_says(page: Page, heading: str) -> None:
    """Wait until an order's page says where it stands."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=15_000)


def wait_for(page: Page, is_true: Callable[[], bool]) -> None:
    """Look again and again."""
    for _ in range(40):
        if is_true():
            return
        page.wait_for_timeout(250)
    assert is_true()


def test_from_the_shop_to_a_paid_order(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.open("/shop")
    page.get_by_role("button", name="Add A bag of coffee to cart").click()
    page.get_by_role("button", name="One A bag of coffee more").click()
    page.get_by_role("button", name="Order and pay $25.00").click()
    assert_says(page, "Waiting for the payment")
    page.get_by_text("Payment request", exact=True).click()
    page.evaluate("window.isTheSame = true")

    checkout = visitor.open(page.url.removeprefix(visitor.sandbox.world))
    checkout.get_by_role("link", name="Open the payment page").click()
    expect(checkout.get_by_role("heading", name="$25.00")).to_be_visible()
    wallet = visitor.open("/wallet")
    wallet.get_by_role("textbox", name="Payment request Paste it from").fill(payment_code(checkout))
    wallet.get_by_role("button", name="Pay now").click()
    expect(wallet.locator(".notice")).to_contain_text("Paid.")

    assert_stage(checkout, "paid")
    assert_says(page, "Paid. Thank you!")
    assert page.evaluate("window.isTheSame")
    expect(page.locator("#news")).to_have_text("Paid. Thank you!")
    expect(page.get_by_text("the shop answered 200")).to_be_visible()
    checkout.get_by_role("link", name="Back to 127.0.0.1").click()
    assert_says(checkout, "Paid. Thank you!")


def test_a_payment_after_the_time_is_over_comes_back(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    order = visitor.order()

    visitor.open("/faults").get_by_role("button", name="+ 3 minutes").click()
    assert_says(order, "The time to pay is over")
    order.get_by_role("link", name="Pay all the same, too late").click()
    expect(order.get_by_text("to the demo shop")).to_be_visible()
    refunds = order.locator("td.plus")
    before = refunds.count()
    order.get_by_role("button", name="Pay now").click()
    expect(refunds).to_have_count(before + 1, timeout=15_000)
    expect(order.locator("#news")).to_have_text("A refund has come in")
    order.get_by_role("link", name="Back to the order").click()

    assert_says(order, "It came too late, and the money is back")
    order.get_by_role("link", name="See it in the wallet").click()
    expect(order.get_by_role("group", name="Refunds received")).to_contain_text("ann@wallet.example")


def test_pay_late_without_an_address_and_give_one(visit: Callable[..., Visitor]) -> None:
    visitor = visit(viewport=PHONE)
    order = visitor.order(address="")
    before = visitor.refunds()

    order.get_by_role("link", name="Pay with the sandbox wallet").click()
    order.get_by_role("button", name="Pay late").click()
    expect(order.locator(".notice")).to_contain_text("Paid late.")
    order.get_by_role("link", name="Back to the order").click()
    assert_says(order, "where should the money go?")
    order.get_by_role("link", name="Give an address").click()
    order.get_by_label("Lightning address or LNURL").fill("ann@wallet.example")
    order.get_by_role("button", name="Send my money back").click()

    assert_stage(order, "refunded")
    wait_for(order, lambda: visitor.refunds() == before + 1)


def test_without_any_javascript(visit: Callable[..., Visitor]) -> None:
    visitor = visit(java_script_enabled=False)
    order = visitor.order("Green tea")
    checkout = visitor.open(order.url.removeprefix(visitor.sandbox.world))
    checkout.get_by_role("link", name="Open the payment page").click()
    link = checkout.get_by_role("link", name="Open in wallet").get_attribute("href")

    wallet = visitor.open("/wallet")
    wallet.get_by_role("textbox", name="Payment request Paste it from").fill(link or "")
    wallet.get_by_role("button", name="Pay now").click()

    assert_stage(checkout, "paid")
    assert_says(order, "Paid. Thank you!")


def test_an_order_whose_time_is_over_is_ordered_again_from_its_payment_page(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    checkout = visitor.order("Teapot")
    checkout.get_by_role("link", name="Open the payment page").click()

    visitor.open("/faults").get_by_role("button", name="+ 3 minutes").click()
    assert_stage(checkout, "expired")
    checkout.get_by_role("link", name="Get a new payment code").click()

    expect(checkout.get_by_role("heading", name="Your cart")).to_be_visible()
    expect(checkout.get_by_role("button", name="Order and pay $34.00")).to_be_visible()


def test_a_fault_is_set_and_cleared(visit: Callable[..., Visitor]) -> None:
    page = visit().open("/faults")

    page.locator("button[value=webhook-twice]").click()
    expect(page.get_by_role("group", name="Set now")).to_contain_text("webhook_duplicate")
    page.get_by_role("button", name="Clear all").click()

    expect(page.get_by_text("Nothing. All is well.")).to_be_visible()


LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark", "viewport": PHONE},
}


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_keeps_anybody_out(visit: Callable[..., Visitor], look: str) -> None:
    """axe finds no violation on any page, and none is wider than its window."""
    visitor = visit(**LOOKS[look])
    over, _ = visitor.order_at_once("Cappuccino")
    late, late_request = visitor.order_at_once("Candle")
    visitor.sandbox.pay(late_request, late=True)
    paid, paid_request = visitor.order_at_once("Teapot")
    visitor.sandbox.pay(paid_request)
    waiting, request = visitor.order_at_once("Green tea")
    page = visitor.open(late)
    assert_says(page, "It came too late, and the money is back")
    page.goto(f"{visitor.sandbox.world}/shop")
    page.get_by_role("button", name="Add Cappuccino to cart").click()
    page.goto(f"{visitor.sandbox.world}/faults")
    page.locator("button[value=list-blocked]").click()

    pages = {name: f"/{name}" for name in ("", "shop", "shop/cart", "faults", "ledger", "wallet")}
    pages |= {"waiting": waiting, "paid": paid, "late": late, "over": over, "pay": f"/wallet?payment_request={request}"}
    for name, path in pages.items():
        page.goto(visitor.sandbox.world + path)
        picture(page, f"sandbox-{name.replace('/', '-') or 'tour'}-{look}")
        assert_accessible(page)
        assert_fits(page)


@pytest.mark.parametrize("look", LOOKS)
def test_a_receive_request_is_paid_again_with_another_amount_from_strikes_app(
    visit: Callable[..., Visitor], look: str
) -> None:
    visitor = visit(**LOOKS[look])
    body = {"bolt11": {"amount": {"amount": "0.00052000", "currency": "BTC"}, "description": "Green tea"}}
    answer = visitor.context.request.post(
        f"{visitor.sandbox.world}/v1/receive-requests", data=body, headers={"Authorization": "Bearer any key"}
    )
    page = visitor.open(f"/wallet?payment_request={answer.json()['bolt11']['invoice']}")
    page.get_by_role("button", name="Pay now").click()
    expect(page.locator(".notice")).to_contain_text("Paid.")

    page.get_by_role("link", name="Pay again").first.click()
    page.get_by_text("Another amount, or Strike's app").click()
    page.get_by_label("Amount in sats").fill("60,000")
    page.get_by_label("Strike's app: the money stays inside Strike").check()
    picture(page, f"sandbox-wallet-again-{look}")
    assert_accessible(page)
    assert_fits(page)
    page.get_by_role("button", name="Pay again").click()

    expect(page.locator(".notice")).to_contain_text("Paid 60,000 sats, 8,000 more than asked for.")
    assert_accessible(page)
    assert_fits(page)


def test_an_order_of_yesterday_leads_to_the_shop(
    sandbox: RunningSandbox, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context().new_page()

    answer = page.goto(f"{sandbox.world}/shop/orders/unknown")

    assert answer is not None
    assert answer.status == 404
    assert_accessible(page)
    page.get_by_role("link", name="To the shop").click()
    expect(page).to_have_url(re.compile("/shop$"))
