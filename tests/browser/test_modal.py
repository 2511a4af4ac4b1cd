"""`lnpay.js` in a page of another origin: the shop's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Page, expect

from lnpay.domain.bolt11 import decode
from lnpay.domain.receives import ReceiveWith
from tests.browser.conftest import PHONE, Stand, assert_accessible, picture
from tests.scenarios.live import free_port

SHOP = """<!doctype html><html lang="en"><title>Shop</title><main><h1>Shop</h1>
<script src="{url}/lnpay.js"></script>
<lnpay-button checkout-url="{checkout}">Pay 12.34</lnpay-button>
<button id="bare" type="button">Open</button></main>
<script src="/shop.js"></script>"""

SCRIPT = """
window.heard = [];
const note = (name) => () => window.heard.push(name);
const noteSats = ({receivedSats, missingSats}) => window.heard.push(`${receivedSats}, ${missingSats} missing`);
const button = document.querySelector("lnpay-button");
for (const name of ["paid", "underpaid", "expired", "close"]) button.addEventListener(name, note(name));
document.getElementById("bare").addEventListener("click", () => {
  LNPay.open(button.getAttribute("checkout-url"),
    {onPaid: note("onPaid"), onUnderpaid: noteSats, onExpired: note("onExpired"), onClose: note("onClose")});
});
"""

POLICY = "default-src 'none'; script-src 'self' {url}; frame-src {url}"
"""A shop as strict as we are: no inline style, no inline script."""


class ShopPage:
    """A page of a shop, on a port of its own."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.html = ""
        self.policy = ""
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """The page or its script."""
                is_script = self.path == "/shop.js"
                body = (SCRIPT if is_script else shop.html).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/javascript" if is_script else "text/html")
                self.send_header("Content-Security-Policy", shop.policy)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def sell(self, stand: Stand, **options: str) -> tuple[Page, str]:
        """Open the shop's page for a new invoice. Gives it and the invoice's payment request."""
        invoice = stand.sell()
        self.html = SHOP.format(url=stand.url, checkout=stand.page_url(invoice))
        self.policy = POLICY.format(url=stand.url)
        page = stand.new_context(**options).new_page()
        page.goto(self.origin)
        return page, invoice.issue.bolt11


def assert_heard(page: Page, words: list[str]) -> None:
    """What the shop's page was told so far, in order; it may take a moment."""
    for _ in range(100):
        if page.evaluate("window.heard") == words:
            return
        page.wait_for_timeout(100)
    assert page.evaluate("window.heard") == words


@pytest.fixture
def shop() -> Iterator[ShopPage]:
    opened = ShopPage(free_port())
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


def test_a_customer_pays_without_leaving_the_shop(shop: ShopPage, make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(cors_origins=(shop.origin,))
    page, bolt11 = shop.sell(stand)

    page.get_by_role("button", name="Pay 12.34").click()

    dialog = page.get_by_role("dialog", name="Pay $12.34")
    expect(dialog).to_be_visible()
    frame = page.frame_locator("dialog iframe")
    expect(frame.get_by_role("link", name="Open in wallet")).to_be_visible()
    picture(page, "modal")
    assert_accessible(page)
    stand.simulator.pay_invoice(bolt11)
    expect(frame.get_by_role("heading", name="Paid")).to_be_visible(timeout=10_000)
    assert_heard(page, ["paid"])
    page.get_by_role("button", name="Close").click()
    expect(page.locator("dialog")).to_have_count(0)
    assert page.evaluate("window.heard") == ["paid", "close"]


def test_the_keyboard_stays_inside_and_escape_closes(shop: ShopPage, make_stand: Callable[..., Stand]) -> None:
    page, _ = shop.sell(make_stand(cors_origins=(shop.origin,)), viewport=PHONE)  # type: ignore[arg-type]
    opener = page.locator("#bare")
    opener.press("Enter")
    expect(page.frame_locator("dialog iframe").locator("#open")).to_be_visible()
    picture(page, "modal-phone")

    for _ in range(12):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.closest('dialog') ? 'dialog' : document.activeElement.tagName")
        assert focused in ("dialog", "BODY")
    page.frame_locator("dialog iframe").locator("#open").focus()
    page.keyboard.press("Escape")

    expect(page.locator("dialog")).to_have_count(0)
    expect(opener).to_be_focused()
    assert page.evaluate("window.heard") == ["onClose"]


def test_expired_is_reported_once(shop: ShopPage, make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(cors_origins=(shop.origin,))
    page, _ = shop.sell(stand)
    page.locator("#bare").click()
    expect(page.frame_locator("dialog iframe").locator("#open")).to_be_visible()

    stand.wait(150)

    assert_heard(page, ["onExpired"])


def test_each_part_of_a_payment_is_reported_with_what_is_missing(
    shop: ShopPage, make_stand: Callable[..., Stand]
) -> None:
    stand = make_stand(cors_origins=(shop.origin,), receive_with=ReceiveWith.RECEIVE_REQUEST)
    page, bolt11 = shop.sell(stand)
    page.locator("#bare").click()
    expect(page.frame_locator("dialog iframe").locator("#open")).to_be_visible()
    price = (decode(bolt11).amount_msats or 0) // 1_000

    heard = []
    for sats, received in ((5_000, 5_000), (2_000, 7_000)):
        stand.simulator.pay_invoice(bolt11, received_sats=sats)
        heard.append(f"{received}, {price - received} missing")
        assert_heard(page, heard)
    stand.wait(170)

    assert_heard(page, [*heard, "onExpired"])


def test_words_of_another_origin_are_not_believed(shop: ShopPage, make_stand: Callable[..., Stand]) -> None:
    page, _ = shop.sell(make_stand(cors_origins=(shop.origin,)))
    page.locator("#bare").click()
    expect(page.frame_locator("dialog iframe").locator("#open")).to_be_visible()

    page.evaluate("window.postMessage({lnpay: 1, type: 'state', state: 'paid'}, '*')")
    page.wait_for_timeout(300)

    assert page.evaluate("window.heard") == []


def test_a_link_that_leads_nowhere_keeps_the_customer_in_the_shop(
    shop: ShopPage, make_stand: Callable[..., Stand]
) -> None:
    stand = make_stand(cors_origins=(shop.origin,))
    page, _ = shop.sell(stand)

    page.evaluate(f"void LNPay.open('{stand.url}/checkout/unknown')")

    # So the modal has heard that the page is there; it does not leave for it.
    expect(page.get_by_role("dialog", name="This page does not exist")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("dialog")).to_have_count(0)


def test_a_shop_that_is_not_named_gets_no_frame_but_the_page_itself(
    shop: ShopPage, make_stand: Callable[..., Stand]
) -> None:
    stand = make_stand(cors_origins=("https://another.example",))
    page, _ = shop.sell(stand)

    page.locator("#bare").click()

    expect(page.frame_locator("dialog iframe").locator("#open")).to_have_count(0)
    page.wait_for_url(f"{stand.url}/checkout/*")
    expect(page.locator("#open")).to_be_visible()


def test_a_wrong_origin_is_named_at_once_with_what_to_do(shop: ShopPage, make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(cors_origins=(shop.origin.replace("127.0.0.1", "localhost"),))
    page, _ = shop.sell(stand, viewport=PHONE)  # type: ignore[arg-type]
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))

    page.locator("#bare").click()

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(f"add {shop.origin} to CORS_ORIGINS of the LNPay at {stand.url}", timeout=3_000)
    assert [text for text in errors if text.startswith("LNPay: ") and shop.origin in text]
    assert_accessible(page)
    picture(page, "modal-wrong-origin")
    alert.get_by_role("link", name="Open the payment page").click()
    expect(page.locator("#open")).to_be_visible()


def test_a_link_that_runs_as_a_script_is_refused(shop: ShopPage, make_stand: Callable[..., Stand]) -> None:
    page, _ = shop.sell(make_stand(cors_origins=(shop.origin,)))

    said = page.evaluate("(() => { try { LNPay.open('javascript:alert(1)') } catch (error) { return error.name } })()")

    assert said == "TypeError"
    expect(page.locator("dialog")).to_have_count(0)
