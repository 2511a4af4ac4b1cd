"""Connecting shops: the operator's list of keys, and the answer to a plugin that asks for one."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode, urljoin

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lnpay.access.api_keys import create_key, find_key, list_keys, store_id
from lnpay.domain.permissions import PERMISSIONS_FOR, KeyPurpose
from tests.web.test_admin import HOSTILE, form_token, log_in, make_shop, said, shop, stranger
from tests.world import World

__all__ = ["make_shop", "shop"]

WOOCOMMERCE = [
    "btcpay.store.canviewinvoices",
    "btcpay.store.cancreateinvoice",
    "btcpay.store.canviewstoresettings",
    "btcpay.store.canmodifyinvoices",
    "btcpay.store.cancreatenonapprovedpullpayments",
    "btcpay.store.webhooks.canmodifywebhooks",
]
"""As the plugin asks for them."""

RETURN = "https://shop.example/?btcpay-settings-callback"


def query(redirect: str | None = RETURN, permissions: list[str] | None = None, **more: str) -> str:
    """The query string of a plugin's link to LNPay."""
    fields = [("permissions", one) for one in (WOOCOMMERCE if permissions is None else permissions)]
    fields += [("applicationName", more.pop("name", "WooCommerce")), ("strict", more.pop("strict", "true"))]
    fields += [("selectiveStores", "true"), *more.items()]
    return urlencode(fields + ([] if redirect is None else [("redirect", redirect)]))


def ask(world: World, text: str, client: FlaskClient | None = None) -> TestResponse:
    """Follow the plugin's link in a logged-in browser."""
    return follow(client or world.client, f"/api-keys/authorize?{text}")


def follow(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    """The page that a browser ends up on."""
    for _ in range(5):
        answer = client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        if answer.status_code not in (302, 303):
            return answer
        path = urljoin(path, answer.location)
    raise AssertionError("redirected in a circle")


def hidden(page: str) -> list[tuple[str, str]]:
    """The hidden fields of the last form of a page."""
    form = page.rpartition("<form")[2]
    return [
        (html.unescape(name), html.unescape(value))
        for name, value in re.findall(r'<input type="hidden" name="(.*?)" value="(.*?)">', form)
    ]


def authorize(world: World, text: str) -> TestResponse:
    """Follow the plugin's link and press Authorize."""
    fields = hidden(ask(world, text).text)
    return world.client.post("/admin/connect", data=urlencode(fields), content_type="application/x-www-form-urlencoded")


def count(world: World) -> int:
    return len(list_keys(world.backend.repository))


@pytest.fixture
def admin(shop: World) -> World:
    """A shop whose operator is logged in."""
    log_in(shop)
    return shop


class TestList:
    def test_it_shows_address_and_store_id_and_every_key(self, make_shop: Callable[..., World]) -> None:
        world = make_shop(webhook_url="http://pay.shop.example/webhook")
        now = world.backend.clock()
        created = create_key(world.backend.repository, KeyPurpose.PRESTASHOP, HOSTILE, now)
        log_in(world)

        page = world.client.get("/admin/connections").text

        assert "<code>http://pay.shop.example</code>" in page
        assert f"<code>{created.store_id}</code>" in page
        assert html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
        assert "<script>" not in page
        assert "Never used" in page
        assert created.secret not in page

    def test_it_warns_before_the_first_key_and_names_those_of_the_settings(
        self, make_shop: Callable[..., World]
    ) -> None:
        warned = []
        for world in (make_shop(), make_shop(api_keys=("a-shop-key-for-the-tests",))):
            log_in(world)
            page = world.client.get("/admin/connections").text
            warned.append(("From the first key on" in page, "keys of the setting API_KEYS" in page))

        assert warned == [(True, False), (False, True)]

    def test_when_a_key_was_last_used_is_shown(self, admin: World) -> None:
        created = create_key(admin.backend.repository, KeyPurpose.CUSTOM, "My shop", admin.backend.clock())
        find_key(admin.backend.repository, created.secret, admin.backend.clock())

        assert "Last used <time" in admin.client.get("/admin/connections").text


class TestCreate:
    def create(self, world: World, **fields: str) -> TestResponse:
        data = {"form_token": form_token(world.client), "made_for": "woocommerce", "label": "My shop", **fields}
        return world.client.post("/admin/connections", data=data)

    @pytest.mark.parametrize("made_for", [str(one) for one in KeyPurpose])
    def test_the_key_is_shown_once_and_kept_nowhere(self, admin: World, made_for: str) -> None:
        answer = self.create(admin, made_for=made_for)

        found = re.search(r'<input id="key" class="link" readonly value="(\w+)">', answer.text)
        assert found is not None
        key = find_key(admin.backend.repository, found[1], admin.backend.clock())
        assert key is not None
        assert (key.made_for, key.label, key.permissions) == (
            made_for,
            "My shop",
            PERMISSIONS_FOR[KeyPurpose(made_for)],
        )
        assert store_id(admin.backend.repository) in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        for later in (answer.headers.getlist("Set-Cookie"), admin.client.get("/admin/connections").text):
            assert found[1] not in str(later)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"label": ""}, "the label must have 1 to 100"),
            ({"label": "x" * 101}, "the label must have 1 to 100"),
            ({"label": "a\u202eb"}, "the label must have 1 to 100"),
            ({"made_for": "shopware"}, "choose what the key is for"),
            ({"made_for": ""}, "choose what the key is for"),
        ],
    )
    def test_a_mistake_is_reported_and_the_input_is_kept(
        self, admin: World, fields: dict[str, str], words: str
    ) -> None:
        answer = self.create(admin, **fields)

        assert answer.status_code == 400
        assert f"No key was created: {words}" in html.unescape(answer.text)
        assert f'value="{fields.get("label", "My shop")}"' in answer.text
        assert count(admin) == 0

    @pytest.mark.parametrize("path", ["/admin/connections", "/admin/connections/1/revoke", "/admin/connect"])
    def test_a_form_of_another_page_does_nothing(self, admin: World, path: str) -> None:
        create_key(admin.backend.repository, KeyPurpose.CUSTOM, "My shop", admin.backend.clock())
        fields = [*parse_qsl(query()), ("made_for", "custom"), ("label", "x")]
        for token, headers in (
            ("", {}),
            ("0" * 64, {}),
            (form_token(admin.client), {"Origin": "https://shop.example"}),
            (form_token(admin.client), {"Sec-Fetch-Site": "cross-site"}),
            (form_token(admin.client), {"Sec-Fetch-Site": "same-site"}),
        ):
            answer = admin.client.post(
                path,
                data=urlencode([*fields, ("form_token", token)]),
                content_type="application/x-www-form-urlencoded",
                headers=headers,
            )
            assert answer.status_code == 403
        (key,) = list_keys(admin.backend.repository)
        assert key.revoked_at is None

    @pytest.mark.parametrize("path", ["/admin/connections", "/admin/connections/1/revoke", "/admin/connect"])
    def test_without_a_login_nothing_is_done(self, shop: World, path: str) -> None:
        answer = stranger(shop).post(path, data={"made_for": "custom", "label": "x"})

        assert answer.status_code == 303
        assert "login" in answer.location
        assert count(shop) == 0


class TestRevoke:
    def press(self, world: World, key_id: int) -> str:
        answer = world.client.post(f"/admin/connections/{key_id}/revoke", data={"form_token": form_token(world.client)})
        assert (answer.status_code, answer.location) == (303, "../../../admin/connections")
        return said(world.client.get("/admin/connections").text)

    def test_a_revoked_key_is_refused_from_now_on(self, admin: World) -> None:
        created = create_key(admin.backend.repository, KeyPurpose.CUSTOM, "My shop", admin.backend.clock())

        assert self.press(admin, created.key.id) == "Revoked: My shop is refused from now on."

        assert find_key(admin.backend.repository, created.secret, admin.backend.clock()) is None
        page = admin.client.get("/admin/connections").text
        assert "Revoked <time" in page
        assert "Revoke…" not in page

    @pytest.mark.parametrize("key_id", [0, 7, 2**63, 10**40])
    def test_a_missing_key_is_reported(self, admin: World, key_id: int) -> None:
        assert self.press(admin, key_id) == f"Nothing was done: there is no API key with the id {key_id}."


class TestAsking:
    def test_the_page_shows_who_asks_and_for_what(self, admin: World) -> None:
        answer = ask(admin, query(applicationIdentifier="wc"))

        assert answer.status_code == 200
        page = html.unescape(answer.text)
        assert "<h1>Authorize WooCommerce?</h1>" in page
        assert "<b>shop.example</b> asks for an API key" in page
        granted, _, left_out = page.partition("It does not permit")
        assert [one for one in WOOCOMMERCE if f"<code>{one}</code>" in granted] == [
            one for one in WOOCOMMERCE if "pullpayments" not in one
        ]
        assert "<code>btcpay.store.cancreatenonapprovedpullpayments</code>" in left_out
        assert "not encrypted" not in page
        assert count(admin) == 0

    def test_an_operator_who_is_not_logged_in_gets_there_after_the_login(self, shop: World) -> None:
        login = ask(shop, query())
        assert "<h1>LNPay</h1>" in login.text
        (place,) = [value for name, value in hidden(login.text) if name == "next"]

        answer = log_in(shop, next=place)
        page = shop.client.get(urljoin("/admin/login", answer.location)).text

        assert "<b>shop.example</b> asks for an API key" in html.unescape(page)
        assert ("redirect", RETURN) in hidden(page)

    def test_a_browser_from_another_site_is_not_asked_to_log_in_again(self, admin: World) -> None:
        """It leaves the strict cookie out on the way from the shop, and brings it with the next step."""
        from_shop = follow(stranger(admin), f"/api-keys/authorize?{query()}", Sec_Fetch_Site="cross-site")
        link = html.unescape(re.findall('content="0; url=(.*?)"', from_shop.text)[0])

        page = follow(admin.client, urljoin("/admin/connect", link))

        assert from_shop.status_code == 200
        assert f'<a class="main" href="{html.escape(link)}">Continue</a>' in from_shop.text
        assert "<b>shop.example</b> asks for an API key" in html.unescape(page.text)

    def test_without_an_admin_password_it_says_what_to_set(self, world: World) -> None:
        answer = world.client.get(f"/api-keys/authorize?{query()}")

        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
        assert "set ADMIN_PASSWORD" in answer.get_json()["message"]

    def test_without_greenfield_the_address_does_not_exist(self, make_shop: Callable[..., World]) -> None:
        world = make_shop(greenfield=False)
        log_in(world)

        assert world.client.get(f"/api-keys/authorize?{query()}").status_code == 404
        assert "GREENFIELD is off" in world.client.get("/admin/connections").text

    def test_an_unencrypted_address_is_pointed_out(self, admin: World) -> None:
        said = "not encrypted (http)"

        assert said in ask(admin, query("http://192.168.1.7:8080/back")).text
        assert said not in ask(admin, query("http://localhost:8080/back")).text

    def test_hostile_words_are_only_text(self, admin: World) -> None:
        page = ask(admin, query(name=HOSTILE, applicationIdentifier=HOSTILE)).text

        assert "<script" not in page
        assert "49" not in page.partition("<h1>")[2].partition("</h1>")[0]
        assert HOSTILE[:60] in html.unescape(page)

    def test_invisible_characters_are_removed(self, admin: World) -> None:
        page = ask(admin, query(name="Woo\u202e\x00\nCommerce")).text

        assert "<h1>Authorize Woo Commerce?</h1>" in page

    @pytest.mark.parametrize(
        "redirect",
        [
            "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "/admin", "//shop.example/",
            "shop.example",
            "ftp://shop.example/", "https://", "https:///x", "http:shop.example", "https://a@shop.example/",
            "https://shop.example:99999/", "https://shop.example/ x", "https://shop.example\\@evil.example/",
            "https://shop.example/\"><b>", "https://münchen.example/", "https://[::1]/", "https://[v1.x]/",
            "https://shop.example;form-action *", "https://*/", "https://shop.example/" + "x" * 2_000, "file:///etc/passwd",
            "java\nscript:alert(1)", "blob:https://shop.example/x", "view-source:https://shop.example/",
        ],
    )  # fmt: skip
    def test_an_invalid_redirect_is_refused_with_a_reason(self, admin: World, redirect: str) -> None:
        answer = ask(admin, query(redirect))

        assert answer.status_code == 400
        assert "This shop cannot be connected" in answer.text
        assert "the address to return to" in html.unescape(answer.text)
        # Nor by a form that was changed on the way.
        fields = [*parse_qsl(query(redirect)), ("form_token", form_token(admin.client))]
        forged = admin.client.post(
            "/admin/connect", data=urlencode(fields), content_type="application/x-www-form-urlencoded"
        )
        assert forged.status_code == 400
        assert count(admin) == 0

    @pytest.mark.parametrize(
        ("permissions", "strict", "words"),
        [
            ([*WOOCOMMERCE, "btcpay.server.canmodifyserversettings"], "true", "btcpay.server.canmodifyserversettings"),
            (["unrestricted"], "true", "unrestricted"),
            (["unrestricted"], "false", "it asks for no permission that LNPay can grant"),
            (["btcpay.store.cancreatenonapprovedpullpayments"], "true", "it asks for no permission"),
            (["btcpay.store.canviewinvoices:another-store"], "true", "btcpay.store.canviewinvoices:another-store"),
            ([], "true", "it asks for no permission"),
            ([""], "false", "it asks for no permission"),
            ([f"x{number}" for number in range(60)], "false", "more than 50 permissions"),
        ],
    )
    def test_a_permission_that_is_never_granted_is_refused_with_a_reason(
        self, admin: World, permissions: list[str], strict: str, words: str
    ) -> None:
        answer = ask(admin, query(permissions=permissions, strict=strict))

        assert answer.status_code == 400
        assert words in html.unescape(answer.text)

    def test_a_request_that_is_not_strict_gets_what_can_be_granted(self, admin: World) -> None:
        text = query(permissions=["btcpay.store.canviewinvoices", "btcpay.user.candeleteuser"], strict="false")

        page = ask(admin, text).text

        assert "an unknown permission: <code>btcpay.user.candeleteuser</code>" in page


class TestAuthorizing:
    def test_woocommerce_gets_exactly_what_it_accepts(self, admin: World) -> None:
        answer = authorize(admin, query())

        assert answer.status_code == 200
        fields = hidden(answer.text)
        (secret,) = [value for name, value in fields if name == "apiKey"]
        key = find_key(admin.backend.repository, secret, admin.backend.clock())
        assert key is not None
        assert (key.made_for, key.label, key.redirect_host) == (
            KeyPurpose.WOOCOMMERCE,
            "WooCommerce (shop.example)",
            "shop.example",
        )
        store = store_id(admin.backend.repository)
        scoped = [value for name, value in fields if name == "permissions[]"]
        assert set(scoped) == {f"{one}:{store}" for one in WOOCOMMERCE if "pullpayments" not in one}
        assert dict(fields)["userId"]
        assert f'method="post" action="{RETURN}"' in html.unescape(answer.text)

    @pytest.mark.parametrize(
        ("redirect", "target"),
        [
            (RETURN, "https://shop.example"),
            ("HTTPS://Shop.Example:8443/a?b=c&d=%20#e", "https://shop.example:8443"),
            ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000"),
        ],
    )
    def test_the_browser_may_send_the_key_to_that_host_only(self, admin: World, redirect: str, target: str) -> None:
        answer = authorize(admin, query(redirect))

        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert f"form-action {target}" in policy
        assert "script-src 'self'" in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["Cache-Control"] == "no-store"
        # Every other page keeps its forms to itself.
        assert "form-action 'self'" in admin.client.get("/admin/connections").headers["Content-Security-Policy"]

    def test_without_javascript_there_is_a_button(self, admin: World) -> None:
        page = authorize(admin, query()).text

        assert '<button type="submit" class="main">Send the key to shop.example</button>' in page
        assert re.search(r'<script src="\.\./static/connect\.js\?v=\w+" defer></script>', page)
        assert admin.client.get("/static/connect.js").status_code == 200

    def test_without_a_redirect_the_key_is_shown(self, admin: World) -> None:
        answer = authorize(admin, query(None, name="", permissions=["btcpay.store.canviewinvoices"]))

        (secret,) = re.findall(r'<input id="key" class="link" readonly value="(\w+)">', answer.text)
        key = find_key(admin.backend.repository, secret, admin.backend.clock())
        assert key is not None
        assert (key.label, key.permissions, key.made_for) == (
            "A shop",
            ("btcpay.store.canviewinvoices",),
            KeyPurpose.CUSTOM,
        )

    @pytest.mark.parametrize(
        ("name", "made_for"),
        [
            ("PrestaShop", KeyPurpose.PRESTASHOP),
            ("BTCPay for prestashop 8", KeyPurpose.PRESTASHOP),
            ("WooCommerce", KeyPurpose.CUSTOM),
            ("nopCommerce", KeyPurpose.CUSTOM),
        ],
    )
    def test_a_key_with_a_plugins_own_permissions_names_that_plugin(
        self, admin: World, name: str, made_for: KeyPurpose
    ) -> None:
        authorize(admin, query(name=name, permissions=list(PERMISSIONS_FOR[KeyPurpose.PRESTASHOP])))

        (key,) = list_keys(admin.backend.repository)
        assert (key.made_for, key.permissions) == (made_for, PERMISSIONS_FOR[KeyPurpose.PRESTASHOP])

    def test_a_permission_for_this_store_is_the_same_permission(self, admin: World) -> None:
        scoped = [f"btcpay.store.canviewinvoices:{store_id(admin.backend.repository)}"]

        authorize(admin, query(permissions=scoped))

        assert list_keys(admin.backend.repository)[0].permissions == ("btcpay.store.canviewinvoices",)

    def test_permissions_may_be_sent_as_php_sends_lists(self, admin: World) -> None:
        text = urlencode([("permissions[]", one) for one in WOOCOMMERCE])

        authorize(admin, text)

        assert list_keys(admin.backend.repository)[0].permissions == PERMISSIONS_FOR[KeyPurpose.WOOCOMMERCE]

    def test_a_very_long_name_and_host_make_a_label_that_fits(self, admin: World) -> None:
        host = ".".join(["x" * 60] * 4)

        authorize(admin, query(f"https://{host}/", name="n" * 500, applicationIdentifier="i" * 500))

        (key,) = list_keys(admin.backend.repository)
        assert len(key.label) == 100
        assert (key.redirect_host, len(key.application_id or "")) == (host, 200)
