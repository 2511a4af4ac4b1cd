"""Connecting a shop in a real browser: from the plugin, by hand, with and without JavaScript, on every window."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from playwright.sync_api import Page, expect

from lnpay.access.api_keys import create_key, find_key, list_keys, revoke_key, store_id
from lnpay.domain.permissions import PERMISSIONS_FOR, KeyPurpose
from tests.browser.conftest import PHONE, Stand, assert_accessible, assert_fits, picture
from tests.browser.test_admin import PASSWORD, admin, log_in
from tests.web.test_connections import WOOCOMMERCE

__all__ = ["admin"]


@dataclass
class Plugin:
    """A shop's site with a plugin. It is another site than LNPay for the browser: localhost, not 127.0.0.1.

    taken: what the form brought, with its Origin, Cookie and Referer.
    """

    url: str
    taken: list[tuple[list[tuple[str, str]], dict[str, str]]] = field(default_factory=list)

    def link(self, lnpay_url: str, path: str = "/back?btcpay-settings-callback") -> str:
        """Where the plugin sends its operator."""
        fields = [("permissions", one) for one in WOOCOMMERCE]
        fields += [("applicationName", "WooCommerce"), ("strict", "true"), ("redirect", f"{self.url}{path}")]
        return f"{lnpay_url}/api-keys/authorize?{urlencode(fields)}"


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = dict(parse_qsl(urlsplit(self.path).query)).get("to", "")
            self.answer(f'<a href="{target.replace("&", "&amp;")}">Connect</a>')

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            made.taken.append((parse_qsl(body), dict(self.headers)))
            self.answer("<h1>Connected</h1>")

        def answer(self, text: str) -> None:
            content = f"<!doctype html><title>Shop</title>{text}".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = Plugin(f"http://localhost:{server.server_port}")
    yield made
    server.shutdown()
    server.server_close()


def come_from_plugin(page: Page, plugin: Plugin, lnpay_url: str) -> None:
    """Press the plugin's button."""
    page.goto(f"{plugin.url}/?{urlencode({'to': plugin.link(lnpay_url)})}")
    page.get_by_role("link", name="Connect").click()


def check_taken(stand: Stand, plugin: Plugin) -> None:
    """The plugin has got a key that works, with exactly its permissions, and nothing else."""
    ((fields, headers),) = plugin.taken
    store = store_id(stand.backend.repository)
    granted = PERMISSIONS_FOR[KeyPurpose.WOOCOMMERCE]
    assert [name for name, _ in fields] == ["apiKey", "userId", *["permissions[]"] * len(granted)]
    assert {value for name, value in fields if name == "permissions[]"} == {f"{one}:{store}" for one in granted}
    key = find_key(stand.backend.repository, fields[0][1], stand.backend.clock())
    assert key is not None
    assert key.permissions == granted
    assert "Cookie" not in headers
    assert "Referer" not in headers
    used = requests.get(
        f"{stand.url}/invoices?order_id=1", headers={"Authorization": f"token {fields[0][1]}"}, timeout=10
    )
    assert used.status_code == 200


def test_an_operator_who_is_logged_in_is_back_in_the_shop_after_one_click(admin: Stand, plugin: Plugin) -> None:
    page = log_in(admin)

    come_from_plugin(page, plugin, admin.url)
    expect(page.get_by_role("heading", name="Authorize WooCommerce?")).to_be_visible()
    assert list_keys(admin.backend.repository) == []
    page.get_by_role("button", name="Authorize").click()

    expect(page.get_by_role("heading", name="Connected")).to_be_visible()
    check_taken(admin, plugin)


def test_without_javascript_and_login_it_takes_a_password_and_two_buttons(admin: Stand, plugin: Plugin) -> None:
    page = admin.new_context(java_script_enabled=False).new_page()

    come_from_plugin(page, plugin, admin.url)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Authorize").click()
    page.get_by_role("button", name="Send the key to localhost:").click()

    expect(page.get_by_role("heading", name="Connected")).to_be_visible()
    check_taken(admin, plugin)


def test_no_page_of_another_site_can_have_a_key_made(admin: Stand, plugin: Plugin) -> None:
    page = log_in(admin)
    page.goto(f"{plugin.url}/")
    page.set_content(
        f'<form method="post" action="{admin.url}/admin/connect">'
        '<input name="permissions" value="btcpay.store.canviewinvoices"><button>Win a prize</button></form>'
    )

    page.get_by_role("button", name="Win a prize").click()

    expect(page.get_by_role("heading", name="This form has expired")).to_be_visible()
    assert list_keys(admin.backend.repository) == []


def test_create_a_key_by_hand_and_revoke_it(admin: Stand) -> None:
    page = log_in(admin, "/connections", viewport=PHONE)
    page.get_by_label("For").select_option("Magento")
    page.get_by_label("Label").fill("My shop")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("Copy the key now.")).to_be_visible()
    secret = page.get_by_label("API key").input_value()
    key = find_key(admin.backend.repository, secret, admin.backend.clock())
    assert key is not None
    assert key.made_for is KeyPurpose.MAGENTO

    page.get_by_role("link", name="Back to the connections").click()
    page.get_by_text("Revoke…").click()
    page.get_by_role("button", name="Revoke My shop").click()

    expect(page.get_by_role("status")).to_have_text("Revoked: My shop is refused from now on.")
    assert find_key(admin.backend.repository, secret, admin.backend.clock()) is None


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (320, "dark"), (1280, "light"), (1280, "dark")])
def test_every_page_is_for_everybody_in_every_window(admin: Stand, plugin: Plugin, width: int, scheme: str) -> None:
    repository, now = admin.backend.repository, admin.backend.clock()
    page = log_in(admin, "/connections", viewport={"width": width, "height": 900}, color_scheme=scheme)

    def check(name: str) -> None:
        picture(page, f"connections-{name}-{width}-{scheme}")
        for summary in page.locator("summary").all():
            summary.click()
        assert_fits(page)
        assert_accessible(page)

    check("empty")
    revoke_key(repository, create_key(repository, KeyPurpose.PRESTASHOP, "An old shop", now).key.id, now)
    create_key(repository, KeyPurpose.CUSTOM, "x" * 100, now)
    used = create_key(repository, KeyPurpose.WOOCOMMERCE, "WooCommerce (shop.example)", now)
    find_key(repository, used.secret, now)
    page.reload()
    check("list")
    page.get_by_label("Label").fill("   ")
    page.get_by_role("button", name="Create key").click()
    check("mistake")
    page.get_by_label("Label").fill("My shop")
    page.get_by_role("button", name="Create key").click()
    check("created")
    page.goto(plugin.link(admin.url))
    check("authorize")
    # The page that hands the key over, held before its script runs.
    page.route("**/connect.js*", lambda route: route.abort())
    page.get_by_role("button", name="Authorize").click()
    expect(page.get_by_role("button", name="Send the key to")).to_be_visible()
    check("handover")
    page.goto(f"{admin.url}/api-keys/authorize?permissions=unrestricted")
    check("refused")
