"""Invoices through the Greenfield API: create, read, how they are paid, give up, change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lnpay.domain.permissions import KeyPurpose, Permission
from lnpay.domain.states import InvoiceState
from lnpay.runtime.worker_passes import expired_pass, main_pass
from tests.greenfield.shop import Plugin, is_settled
from tests.world import World

INVOICES = "stores/{store}/invoices"

WOOCOMMERCE: dict[str, Any] = {
    "amount": "12.34",
    "currency": "USD",
    "metadata": {"orderId": "1042", "orderUrl": "https://shop.example/1042", "posData": '{"wc":"<b>\\u00e4"}'},
    "checkout": {
        "speedPolicy": None,
        "paymentMethods": ["BTC_LN"],
        "expirationMinutes": None,
        "monitoringMinutes": None,
        "paymentTolerance": None,
        "redirectURL": "https://shop.example/done?key=a",
        "redirectAutomatically": True,
        "defaultLanguage": "de-DE",
        "defaultPaymentMethod": None,
        "lazyPaymentMethods": None,
    },
    "receipt": None,
    "additionalSearchTerms": [],
}
"""As the plugin sends it: every field that it does not set is null."""


def assert_fields(answer: Any, *paths: str) -> None:
    """Check that an answer is a 422 about these fields."""
    assert answer.status_code == 422, answer.text
    found = answer.get_json()
    assert [one["path"] for one in found] == list(paths)
    assert all(one["message"] for one in found)


class TestCreate:
    def test_what_a_plugin_sends_becomes_an_invoice_with_every_field_it_reads(self, plugin: Plugin) -> None:
        made = plugin.succeed("POST", INVOICES, WOOCOMMERCE)

        assert made["checkoutLink"].endswith(f"/i/{made['id']}")
        assert not {":", "/", "."} & set(made["id"])
        assert made["storeId"] == plugin.store
        assert (made["amount"], made["paidAmount"], made["currency"]) == ("12.34", "0", "USD")
        assert (made["status"], made["additionalStatus"], made["type"]) == ("New", "None", "Standard")
        assert made["availableStatusesForManualMarking"] == ["Invalid"]
        assert made["metadata"] == WOOCOMMERCE["metadata"]
        assert made["checkout"]["paymentMethods"] == ["BTC-LN"]
        assert made["checkout"]["redirectURL"] == "https://shop.example/done?key=a"
        assert made["checkout"]["redirectAutomatically"] is True
        assert made["receipt"] == {"enabled": False, "showQR": None, "showPayments": None}
        assert made["archived"] is False

    def test_each_call_makes_another_invoice_also_for_the_same_order(self, plugin: Plugin) -> None:
        first, second = plugin.succeed("POST", INVOICES, WOOCOMMERCE), plugin.succeed("POST", INVOICES, WOOCOMMERCE)

        assert first["id"] != second["id"]
        assert {plugin.row(one).order_id for one in (first, second)} == {"1042"}

    def test_an_order_of_another_shop_with_the_same_number_is_sold_too(self, plugin: Plugin, world: World) -> None:
        paid = plugin.create(metadata={"orderId": "1042"})
        plugin.pay(paid)
        main_pass(world.backend)

        assert plugin.create(metadata={"orderId": "1042"})["status"] == "New"
        native = {
            "json": {"amount_fiat": "1", "order_id": "1042"},
            "headers": {"Authorization": f"Bearer {plugin.key}"},
        }
        assert world.client.post("/generate-invoice", **native).status_code == 200
        assert plugin.read(paid)["status"] == "Settled"

    @pytest.mark.parametrize("amount", ['"12.34"', "12.34", '"12.34000000"', "12.340", "1.234e1"])
    def test_an_amount_may_be_text_or_a_number_and_is_exact(self, plugin: Plugin, amount: str) -> None:
        made = plugin.succeed("POST", INVOICES, f'{{"amount": {amount}, "currency": "USD"}}')

        assert made["amount"] == "12.34"

    @pytest.mark.parametrize(
        ("currency", "amount", "rounded"),
        [
            ("USD", "9.68196400", "9.68"),
            ("USD", "12.34500000", "12.35"),
            ("USD", "12.345", "12.35"),
            ("USD", 12.340000000000001, "12.34"),
            ("USD", "1.0E+3", "1000.00"),
            ("JPY", "1499.50000000", "1500"),
            ("KWD", "1.500", "1.500"),
            ("BTC", "1.234", "1.23400000"),
        ],
    )
    def test_a_total_with_more_decimals_than_the_currency_is_rounded(
        self, plugin: Plugin, currency: str, amount: object, rounded: str
    ) -> None:
        """OpenCart converts a total with four decimals into the customer's currency, and sends eight."""
        made = plugin.create(currency=currency, amount=amount)

        assert made["amount"] == rounded
        assert plugin.read(made)["amount"] == rounded

    @pytest.mark.parametrize(
        "amount", [None, "", "0", "-1", True, [], {}, "0.00499999", "a", "1,234.5", 10**11, "1e30", "0.00000001"]
    )
    def test_what_is_no_amount_is_refused(self, plugin: Plugin, amount: object) -> None:
        answer = plugin.call("POST", INVOICES, {"amount": amount, "currency": "USD"})

        assert_fields(answer, "amount")
        assert plugin.world.count_rows() == 0

    @pytest.mark.parametrize("currency", ["XXX", "BITCOIN", "US", 7])
    def test_an_unknown_currency_is_refused(self, plugin: Plugin, currency: object) -> None:
        assert_fields(plugin.call("POST", INVOICES, {"amount": "12.34", "currency": currency}), "currency")

    @pytest.mark.parametrize(
        ("currency", "amount"),
        [("EUR", "12.34"), ("eur", "12.34"), ("JPY", "1500"), ("BTC", "0.00012340"), ("SATS", "12340")],
    )
    def test_other_currencies_and_bitcoin_are_taken(self, plugin: Plugin, currency: str, amount: str) -> None:
        made = plugin.create(currency=currency, amount=amount)

        assert (made["currency"], made["amount"]) == (currency.upper(), amount)
        if currency in ("BTC", "SATS"):
            assert plugin.row(made).amount_sats == 12_340

    def test_without_a_currency_it_is_the_shops(self, plugin: Plugin) -> None:
        assert plugin.succeed("POST", INVOICES, {"amount": "12.34"})["currency"] == "USD"

    @pytest.mark.parametrize("body", ["", "nonsense", "[]", "1", '"a"', "{", '{"amount": NaN}', "[" * 100_000])
    def test_what_is_no_json_object_is_refused(self, plugin: Plugin, body: str) -> None:
        answer = plugin.call("POST", INVOICES, body)

        assert answer.status_code in (400, 413), answer.text
        assert answer.get_json().keys() == {"code", "message"}

    def test_a_link_to_an_insecure_shop_is_refused_in_words(self, plugin: Plugin) -> None:
        answer = plugin.call("POST", INVOICES, {"amount": "1", "checkout": {"redirectURL": "http://192.168.1.7/"}})

        assert_fields(answer, "checkout.redirectURL")
        assert "https" in answer.text

    @pytest.mark.parametrize(
        "link", ["javascript:alert(1)", "//shop.example", "https://a@b.example/", "https://x/ y", 5]
    )
    def test_what_a_browser_should_not_follow_is_refused(self, plugin: Plugin, link: object) -> None:
        answer = plugin.call("POST", INVOICES, {"amount": "1", "checkout": {"redirectURL": link}})

        assert_fields(answer, "checkout.redirectURL")

    @pytest.mark.parametrize(
        "name", ["BTC-LN", "BTC_LN", "BTC-LightningNetwork", "BTC_LightningLike", "BTC-LNURL", "BTC"]
    )
    def test_every_name_of_lightning_is_understood(self, plugin: Plugin, name: str) -> None:
        assert plugin.create(checkout={"paymentMethods": [name, "XMR"]})["checkout"]["paymentMethods"] == ["BTC-LN"]

    def test_a_list_of_payment_methods_without_lightning_is_refused(self, plugin: Plugin) -> None:
        answer = plugin.call("POST", INVOICES, {"amount": "1", "checkout": {"paymentMethods": ["BTC-CHAIN", "XMR"]}})

        assert_fields(answer, "checkout.paymentMethods")

    def test_several_mistakes_are_named_at_once(self, plugin: Plugin) -> None:
        answer = plugin.call("POST", INVOICES, {"checkout": {"expirationMinutes": 0}, "metadata": []})

        assert_fields(answer, "amount", "metadata", "checkout.expirationMinutes")

    def test_a_provider_that_is_away_is_a_503_with_the_time_to_wait(self, plugin: Plugin, world: World) -> None:
        world.fault("POST", "/v1/invoices", "error", times=None, status=503)

        answer = plugin.call("POST", INVOICES, {"amount": "1"})

        assert answer.status_code == 503
        assert answer.get_json().keys() == {"code", "message"}
        assert int(answer.headers["Retry-After"]) >= 1


class TestMetadata:
    def test_it_comes_back_with_every_number_as_it_was_written(self, plugin: Plugin) -> None:
        text = '{"z":12.10,"a":123456789012345678901234567890,"e":1e400,"l":[null,true,{"ä":"\\\\"}],"":-0.0}'
        made = plugin.call("POST", INVOICES, f'{{"amount":"1","metadata":{text},"currency":"USD"}}')
        read = plugin.call("GET", f"{INVOICES}/{made.get_json()['id']}")
        listed = plugin.call("GET", INVOICES)

        assert made.status_code == 200
        assert [text in one.text for one in (made, read, listed)] == [True] * 3

    def test_nesting_beyond_reason_is_refused(self, plugin: Plugin) -> None:
        nested = '{"a":' * 40 + "1" + "}" * 40

        assert_fields(plugin.call("POST", INVOICES, f'{{"amount":"1","metadata":{nested}}}'), "metadata")

    @pytest.mark.parametrize("metadata", [None, {}])
    def test_without_any_it_is_an_empty_object(self, plugin: Plugin, metadata: object) -> None:
        assert plugin.create(metadata=metadata)["metadata"] == {}

    def test_sixteen_kilobytes_are_taken_and_one_more_byte_is_not(self, plugin: Plugin) -> None:
        most = {"a": "x" * (16 * 1024 - len('{"a":""}'))}

        assert plugin.create(metadata=most)["metadata"] == most
        assert_fields(plugin.call("POST", INVOICES, {"amount": "1", "metadata": {"a": most["a"] + "x"}}), "metadata")

    @pytest.mark.parametrize("metadata", [[], "a", 7, True])
    def test_what_is_no_object_is_refused(self, plugin: Plugin, metadata: object) -> None:
        assert_fields(plugin.call("POST", INVOICES, {"amount": "1", "metadata": metadata}), "metadata")

    def test_it_can_be_replaced(self, plugin: Plugin) -> None:
        made = plugin.create(metadata={"orderId": "1"})

        changed = plugin.succeed("PUT", f"{INVOICES}/{made['id']}", {"metadata": {"orderId": "2", "n": [1, None]}})

        assert changed["metadata"] == {"orderId": "2", "n": [1, None]}
        assert plugin.read(made) == changed
        assert [one["id"] for one in plugin.get(f"{INVOICES}?orderId=2")] == [made["id"]]
        assert plugin.get(f"{INVOICES}?orderId=1") == []

    def test_an_order_id_may_be_a_number_and_the_item_is_shown_to_the_customer(self, plugin: Plugin) -> None:
        made = plugin.create(metadata={"orderId": 1042, "itemDesc": "Two\ncoffees"})

        row = plugin.row(made)
        assert (row.order_id, row.order.description) == ("1042", "Two coffees")
        assert made["metadata"]["orderId"] == 1042


class TestExpiry:
    @pytest.mark.parametrize(("checkout", "seconds"), [(None, 900), ({}, 900), ({"expirationMinutes": 30}, 1800)])
    def test_it_is_fifteen_minutes_unless_asked(self, plugin: Plugin, checkout: Any, seconds: int) -> None:
        made = plugin.create(checkout=checkout)

        assert made["expirationTime"] - made["createdTime"] == seconds

    def test_half_a_minute_is_the_least(self, plugin: Plugin) -> None:
        made = plugin.create(checkout={"expirationMinutes": 0.5})

        assert made["expirationTime"] - made["createdTime"] == 30
        assert made["checkout"]["expirationMinutes"] == 0.5

    def test_it_never_outlives_strikes_quote(self, plugin: Plugin) -> None:
        made = plugin.create(checkout={"expirationMinutes": 1440})

        assert made["expirationTime"] - made["createdTime"] <= 3600

    @pytest.mark.parametrize("minutes", [0, -1, 0.4, 1441, "15", True, 1e300])
    def test_other_times_are_refused(self, plugin: Plugin, minutes: object) -> None:
        answer = plugin.call("POST", INVOICES, {"amount": "1", "checkout": {"expirationMinutes": minutes}})

        assert_fields(answer, "checkout.expirationMinutes")


class TestPaid:
    def test_a_paid_invoice_is_settled_with_its_payment(self, plugin: Plugin, world: World) -> None:
        made = plugin.create()
        before = plugin.get(f"{INVOICES}/{made['id']}/payment-methods")
        plugin.pay(made)
        main_pass(world.backend)

        read = plugin.read(made)
        (method,) = plugin.get(f"{INVOICES}/{made['id']}/payment-methods")

        assert is_settled(read)
        assert (read["status"], read["additionalStatus"], read["paidAmount"]) == ("Settled", "None", "12.34")
        assert read["availableStatusesForManualMarking"] == []
        (payment,) = method["payments"]
        row = plugin.row(made)
        assert payment["id"] == row.issue.payment_hash
        assert payment["status"] == "Settled"
        assert payment["value"] == method["totalPaid"] == method["amount"] == before[0]["due"]
        assert method["due"] == "0"
        assert (before[0]["payments"], before[0]["totalPaid"]) == ([], "0")
        assert before[0]["destination"] == row.issue.bolt11
        assert method["paymentLink"].startswith("lightning:LNBC")
        # Old clients read these names.
        assert (method["paymentMethod"], method["networkFee"]) == ("BTC-LN", "0")

    def test_reading_asks_strike_nothing(self, plugin: Plugin, world: World) -> None:
        made = plugin.create()
        before = len(world.calls())

        for path in ("", f"/{made['id']}", f"/{made['id']}/payment-methods"):
            plugin.get(INVOICES + path)
        for path in (
            "health",
            "server/info",
            "api-keys/current",
            "stores",
            "stores/{store}",
            "stores/{store}/payment-methods",
        ):
            plugin.get(path)

        assert len(world.calls()) == before


class TestMarkInvalid:
    def mark(self, plugin: Plugin, made: Any, status: object = "Invalid") -> Any:
        return plugin.call("POST", f"{INVOICES}/{made['id']}/status", {"status": status})

    @pytest.mark.parametrize("word", ["Invalid", "invalid"])
    def test_an_open_invoice_is_given_up(self, plugin: Plugin, word: str) -> None:
        made = plugin.create()

        answer = self.mark(plugin, made, word)

        assert answer.status_code == 200
        marked = answer.get_json()
        assert (marked["status"], marked["additionalStatus"]) == ("Invalid", "Marked")
        assert marked["availableStatusesForManualMarking"] == []
        assert plugin.read(made) == marked
        # Safe to repeat.
        assert self.mark(plugin, made).get_json() == marked

    def test_the_customers_page_says_that_the_time_is_over(self, plugin: Plugin, world: World) -> None:
        made = plugin.create()
        world.wait(5)
        self.mark(plugin, made)
        world.wait(1)

        page = world.client.get(f"/invoice?id={made['id']}&view=modal")

        assert 'data-stage="expired"' in page.text

    def test_a_payment_that_still_comes_is_late_and_refunded_once(self, plugin: Plugin, world: World) -> None:
        made = plugin.create()
        world.wait(10)
        self.mark(plugin, made)
        world.wait(10)

        plugin.pay(made)
        for _ in range(2):
            main_pass(world.backend)
            world.wait(61)

        row = plugin.row(made)
        assert row.state is InvoiceState.PAID_LATE
        assert world.refund(row) is not None
        read = plugin.read(made)
        assert not is_settled(read)
        assert (read["status"], read["additionalStatus"], read["paidAmount"]) == ("Invalid", "Marked", "0")
        assert plugin.get(f"{INVOICES}/{made['id']}/payment-methods")[0]["payments"] == []

    def test_a_payment_that_was_first_wins(self, plugin: Plugin, world: World) -> None:
        made = plugin.create()
        plugin.pay(made)
        world.wait(10)

        self.mark(plugin, made)
        main_pass(world.backend)

        assert plugin.read(made)["status"] == "Settled"
        assert world.refund(plugin.row(made)) is None
        assert_fields(self.mark(plugin, made), "status")

    @pytest.mark.parametrize("status", ["Settled", "Complete", "", None, 7])
    def test_no_other_status_can_be_given(self, plugin: Plugin, status: object) -> None:
        made = plugin.create()

        assert_fields(self.mark(plugin, made, status), "status")
        assert plugin.read(made)["status"] == "New"

    def test_a_paid_and_an_expired_invoice_stay_as_they_are(self, plugin: Plugin, world: World) -> None:
        paid, expired = plugin.create(), plugin.create()
        plugin.pay(paid)
        main_pass(world.backend)
        world.wait(1000)

        assert_fields(self.mark(plugin, paid), "status")
        assert_fields(self.mark(plugin, expired), "status")
        expired_pass(world.backend)
        assert_fields(self.mark(plugin, expired), "status")
        assert [plugin.read(one)["status"] for one in (paid, expired)] == ["Settled", "Expired"]


class TestAccess:
    @pytest.mark.parametrize(
        ("method", "path", "permission"),
        [
            ("GET", INVOICES, Permission.VIEW_INVOICES),
            ("POST", INVOICES, Permission.CREATE_INVOICE),
            ("GET", f"{INVOICES}/x", Permission.VIEW_INVOICES),
            ("PUT", f"{INVOICES}/x", Permission.MODIFY_INVOICES),
            ("GET", f"{INVOICES}/x/payment-methods", Permission.VIEW_INVOICES),
            ("POST", f"{INVOICES}/x/status", Permission.MODIFY_INVOICES),
            ("GET", "stores", Permission.VIEW_STORE_SETTINGS),
            ("GET", "stores/{store}", Permission.VIEW_STORE_SETTINGS),
            ("GET", "stores/{store}/payment-methods", Permission.VIEW_STORE_SETTINGS),
        ],
    )
    def test_a_key_without_the_right_gets_the_name_of_it(
        self, world: World, method: str, path: str, permission: Permission
    ) -> None:
        others = tuple(one for one in Permission if one not in (permission, Permission.CREATE_PULL_PAYMENTS))
        plugin = Plugin.connect(world, KeyPurpose.CUSTOM, others)

        answer = plugin.call(method, path, {})

        assert answer.status_code == 403
        assert answer.get_json()["code"] == "missing-permission"
        assert answer.get_json()["missingPermission"] == permission

    def test_another_store_is_not_the_keys(self, plugin: Plugin) -> None:
        answer = plugin.call("GET", INVOICES, store="AnotherStore")

        assert (answer.status_code, answer.get_json()["code"]) == (403, "missing-permission")

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "token nonsense"}, {"Authorization": "Basic YTpi"}])
    def test_no_key_and_an_unknown_one_are_refused_even_where_native_routes_are_open(
        self, world: World, headers: dict[str, str]
    ) -> None:
        for path in ("stores", "server/info", "api-keys/current", "stores/x/invoices"):
            answer = world.client.get(f"/api/v1/{path}", headers=headers)

            assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated"), path

    def test_unknown_invoices_are_404(self, plugin: Plugin) -> None:
        for method, path, body in (
            ("GET", "x", None), ("GET", "x/payment-methods", None), ("POST", "x/status", {"status": "Invalid"}),
            ("PUT", "x", {"metadata": {}}), ("GET", "%00", None), ("GET", "%ff", None),
        ):  # fmt: skip
            answer = plugin.call(method, f"{INVOICES}/{path}", body)

            assert (answer.status_code, answer.get_json()["code"]) == (404, "invoice-not-found")

    def test_an_unknown_path_and_a_wrong_method_have_the_same_shape(self, plugin: Plugin) -> None:
        nowhere, wrong = plugin.call("GET", "nothing"), plugin.call("DELETE", "stores")

        assert (nowhere.status_code, nowhere.get_json().keys()) == (404, {"code", "message"})
        assert (wrong.status_code, wrong.get_json().keys()) == (405, {"code", "message"})
        assert "GET" in wrong.headers["Allow"]

    def test_a_bug_shows_nothing_of_the_inside(self, plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lnpay.web.greenfield.stores.version", lambda: json.loads("a secret"))

        answer = plugin.call("GET", "server/info")

        assert (answer.status_code, answer.get_json()["code"]) == (500, "internal-error")
        assert "secret" not in answer.text
