"""`/modal/btcpay.js` in a page of another origin, called as shop plugins call it."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect

from lnpay.access.api_keys import create_key
from lnpay.domain.permissions import KeyPurpose
from tests.browser.conftest import PHONE, Stand, assert_accessible, assert_fits, picture
from tests.scenarios.live import free_port

SHOP = """<!doctype html><html lang="en"><title>Shop</title><main><h1>Shop</h1>
<button id="pay" type="button">Pay</button></main>
<script src="{url}/modal/btcpay.js?ver=2.8.0"></script><script src="{url}/modal/btcpay.js"></script>
<script src="/shop.js"></script>"""

SCRIPT = """
window.heard = [];
window.btcpay.setApiUrlPrefix("{url}");
window.btcpay.onModalWillEnter(() => window.heard.push("enter"));
window.btcpay.onModalWillLeave(() => window.heard.push("leave"));
window.btcpay.onModalReceiveMessage((event) => {{
  const word = event.data;
  window.heard.push(typeof word === "string" ? word : word.status);
  if (typeof word === "object") window.lastInvoice = word.invoiceId;
}});
document.getElementById("pay").addEventListener("click", () => window.btcpay.showInvoice("{invoice}"{params}));
"""

POLICY = "default-src 'none'; script-src 'self' {url}; frame-src {url}"
"""A shop as strict as we are: no inline style, no inline script."""


class PluginShop:
    """A shop's page on a port of its own, with the plugin's calls in it."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.files: dict[str, str] = {}
        self.policy = ""
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """The page or its script."""
                body = shop.files.get(self.path, "").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/javascript" if self.path.endswith(".js") else "text/html")
                self.send_header("Content-Security-Policy", shop.policy)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def sell(self, stand: Stand, *, params: str = "", checkout: Any = None, **options: Any) -> tuple[Page, str]:
        """Create an invoice as a plugin and open the shop's page for it. Gives the page and the invoice's id."""
        made = create_invoice(stand, {"redirectURL": f"{self.origin}/thank-you", **(checkout or {})})
        self.files = {
            "/": SHOP.format(url=stand.url),
            "/shop.js": SCRIPT.format(url=stand.url, invoice=made["id"], params=params),
            "/thank-you": "<!doctype html><title>Thank you</title>",
        }
        self.policy = POLICY.format(url=stand.url)
        page = stand.new_context(**options).new_page()
        page.goto(self.origin)
        return page, made["id"]


def create_invoice(stand: Stand, checkout: Any) -> Any:
    """A new invoice through the Greenfield API."""
    created = create_key(stand.backend.repository, KeyPurpose.WOOCOMMERCE, "A shop", stand.backend.clock())
    answer = requests.post(
        f"{stand.url}/api/v1/stores/{created.store_id}/invoices",
        headers={"Authorization": f"token {created.secret}"},
        json={"amount": "12.34", "currency": "USD", "metadata": {"orderId": "1042"}, "checkout": checkout},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_heard(page: Page, words: list[str]) -> None:
    """What the shop's page has heard so far, in order; it may take a moment."""
    for _ in range(150):
        if page.evaluate("window.heard") == words:
            return
        page.wait_for_timeout(100)
    assert page.evaluate("window.heard") == words


@pytest.fixture
def shop() -> Iterator[PluginShop]:
    opened = PluginShop(free_port())
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


@pytest.mark.parametrize("params", ["", ', "BTC-LN"', ', {"paymentMethodId": "BTC-LN", "animateEntrance": false}'])
def test_a_customer_pays_in_the_shop_and_the_plugin_hears_it(shop: PluginShop, stand: Stand, params: str) -> None:
    page, invoice_id = shop.sell(stand, params=params)

    page.locator("#pay").click()

    frame = page.frame_locator("iframe[name=btcpay]")
    expect(frame.get_by_role("link", name="Open in wallet")).to_be_visible()
    assert_heard(page, ["enter", "loaded", "New"])
    picture(page, "plugin-modal")
    stand.pay(stand.invoice(invoice_id))
    expect(frame.get_by_role("heading", name="Paid")).to_be_visible(timeout=10_000)
    assert_heard(page, ["enter", "loaded", "New", "Settled"])
    assert page.evaluate("window.lastInvoice") == invoice_id
    frame.get_by_role("button", name="Close").click()
    expect(page.locator("iframe")).to_have_count(0)
    assert_heard(page, ["enter", "loaded", "New", "Settled", "leave", "close"])


def test_escape_closes_and_the_focus_returns(shop: PluginShop, stand: Stand) -> None:
    page, _ = shop.sell(stand, viewport=PHONE)
    page.locator("#pay").press("Enter")
    frame = page.frame_locator("iframe[name=btcpay]")
    expect(frame.locator("#open")).to_be_visible()
    picture(page, "plugin-modal-phone")

    frame.locator("#open").focus()
    page.keyboard.press("Escape")

    expect(page.locator("iframe")).to_have_count(0)
    expect(page.locator("#pay")).to_be_focused()


def test_a_late_payment_is_expired_for_the_plugin(shop: PluginShop, stand: Stand) -> None:
    page, invoice_id = shop.sell(stand)
    page.locator("#pay").click()
    assert_heard(page, ["enter", "loaded", "New"])
    stand.wait(1_000)
    assert_heard(page, ["enter", "loaded", "New", "Expired"])

    stand.pay(stand.invoice(invoice_id))
    stand.work_until(lambda: stand.refund(stand.invoice(invoice_id)) is not None)

    frame = page.frame_locator("iframe[name=btcpay]")
    expect(frame.get_by_role("heading", name="Where should your money go?")).to_be_visible(timeout=20_000)
    assert set(page.evaluate("window.heard")[3:]) == {"Expired"}


def test_the_page_may_be_framed_by_the_shop_alone(shop: PluginShop, stand: Stand) -> None:
    made = create_invoice(stand, {"redirectURL": "https://another-shop.example/"})
    shop.files = {
        "/": SHOP.format(url=stand.url),
        "/shop.js": SCRIPT.format(url=stand.url, invoice=made["id"], params=""),
    }
    shop.policy = POLICY.format(url=stand.url)
    page = stand.new_context().new_page()
    page.goto(shop.origin)

    page.locator("#pay").click()
    page.wait_for_timeout(1_000)

    assert page.evaluate("window.heard") == []


def test_words_of_another_origin_are_not_believed(shop: PluginShop, stand: Stand) -> None:
    page, _ = shop.sell(stand)
    page.locator("#pay").click()
    assert_heard(page, ["enter", "loaded", "New"])

    page.evaluate("window.postMessage({invoiceId: 'x', status: 'Settled'}, '*')")
    page.evaluate("window.postMessage('close', '*')")
    page.wait_for_timeout(300)

    assert page.evaluate("window.heard") == ["enter", "loaded", "New"]


def test_the_customer_is_returned_to_the_shop_by_itself(shop: PluginShop, stand: Stand) -> None:
    link = f"{shop.origin}/thank-you?order={{OrderId}}&invoice=%7BInvoiceId%7D"
    _, invoice_id = shop.sell(stand, checkout={"redirectURL": link, "redirectAutomatically": True})
    page = stand.new_context().new_page()
    page.goto(f"{stand.url}/i/{invoice_id}")
    expect(page.locator("#open")).to_be_visible()

    stand.pay(stand.invoice(invoice_id))

    page.wait_for_url(f"{shop.origin}/thank-you?order=1042&invoice={invoice_id}", timeout=20_000)


def test_the_page_speaks_the_language_that_the_shop_wants(shop: PluginShop, stand: Stand) -> None:
    _, invoice_id = shop.sell(stand, checkout={"defaultLanguage": "de-DE"})
    page = stand.new_context().new_page()

    page.goto(f"{stand.url}/i/{invoice_id}")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.goto(f"{stand.url}/invoice?id={invoice_id}&view=modal")
    expect(page.locator("html")).to_have_attribute("lang", "de")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_the_frame_is_accessible_and_fits_a_phone(shop: PluginShop, stand: Stand, scheme: str) -> None:
    _, invoice_id = shop.sell(stand)
    page = stand.new_context(viewport=PHONE, color_scheme=scheme).new_page()
    page.goto(f"{stand.url}/invoice?id={invoice_id}&view=modal")
    # In a frame alone the button is shown.
    page.evaluate("document.getElementById('close').hidden = false")

    picture(page, f"plugin-frame-{scheme}")
    assert_accessible(page)
    assert_fits(page)
