"""Webhooks through the Greenfield API, and what a plugin hears at them."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from lnpay.deliveries.send import send_due
from lnpay.domain.states import EndpointForm, RefundState
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from tests.endpoint_shop import FOUR, EndpointShops, add_endpoint, open_shops
from tests.greenfield.shop import Plugin, is_settled
from tests.world import World

WEBHOOKS = "stores/{store}/webhooks"
URL = "https://shop.test/wc-api/btcpaygf_default/"
SECRET = "5e" * 24


@pytest.fixture
def shops(world: World) -> EndpointShops:
    return open_shops(world)


def settle_down(world: World) -> None:
    """Let workers and senders do what there is to do."""
    for _ in range(3):
        main_pass(world.backend)
        expired_pass(world.backend)
        send_due(world.backend.outbox)
        world.wait(61)


class TestSettingThem:
    def test_a_webhook_from_its_creation_to_its_end(self, plugin: Plugin) -> None:
        events = {"everything": False, "specificEvents": ["InvoiceSettled", "InvoiceExpired"]}
        made = plugin.succeed("POST", WEBHOOKS, {"url": URL, "secret": SECRET, "authorizedEvents": events})
        path = f"{WEBHOOKS}/{made['id']}"

        assert made.pop("secret") == SECRET
        assert (made["url"], made["enabled"], made["automaticRedelivery"]) == (URL, True, True)
        assert made["authorizedEvents"]["everything"] is False
        assert sorted(made["authorizedEvents"]["specificEvents"]) == ["InvoiceExpired", "InvoiceSettled"]
        assert plugin.get(path) == made
        assert plugin.get(WEBHOOKS) == [made]
        changed = plugin.succeed("PUT", path, {"url": URL, "enabled": False, "secret": None})
        assert changed == {**made, "enabled": False}
        assert plugin.succeed("DELETE", path) == {}
        assert plugin.get(WEBHOOKS) == []
        for method, body in (("GET", None), ("PUT", {"enabled": True}), ("DELETE", None)):
            answer = plugin.call(method, path, body)
            assert (answer.status_code, answer.get_json()["code"]) == (404, "webhook-not-found")

    def test_an_address_alone_is_enough(self, plugin: Plugin) -> None:
        made = plugin.succeed("POST", WEBHOOKS, {"url": URL})

        assert len(made["secret"]) >= 20
        assert made["authorizedEvents"] == {"everything": True, "specificEvents": []}

    def test_nulls_are_as_if_absent(self, plugin: Plugin) -> None:
        made = plugin.succeed(
            "POST",
            WEBHOOKS,
            {
                "id": None, "url": URL, "enabled": None, "automaticRedelivery": None, "secret": None,
                "authorizedEvents": {"everything": None, "specificEvents": None},
            },
        )  # fmt: skip

        assert (made["enabled"], made["authorizedEvents"]["everything"]) == (True, True)

    @pytest.mark.parametrize(
        "url", [None, "", "shop.test/hook", "/hook", "ftp://shop.test/", "https://a b/", 7, "x" * 3_000]
    )
    def test_what_is_no_address_is_refused(self, plugin: Plugin, url: object) -> None:
        answer = plugin.call("POST", WEBHOOKS, {"url": url})

        assert answer.status_code == 422
        assert [one["path"] for one in answer.get_json()] == ["url"]
        assert plugin.get(WEBHOOKS) == []

    def test_a_private_address_is_refused(self, make_world: Any) -> None:
        plugin = Plugin.connect(make_world(webhook_allow_private=False))
        for host in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "localhost"):
            answer = plugin.call("POST", WEBHOOKS, {"url": f"http://{host}/hook"})
            assert (answer.status_code, answer.get_json()[0]["path"]) == (422, "url"), host

    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"secret": "x" * 300}, "secret"),
            ({"secret": 7}, "secret"),
            ({"authorizedEvents": []}, "authorizedEvents"),
            ({"authorizedEvents": {"specificEvents": ["a b"]}}, "authorizedEvents.specificEvents"),
            ({"authorizedEvents": {"specificEvents": "InvoiceSettled"}}, "authorizedEvents.specificEvents"),
            ({"enabled": "yes"}, "enabled"),
        ],
    )
    def test_wrong_fields_are_named(self, plugin: Plugin, fields: dict[str, Any], path: str) -> None:
        answer = plugin.call("POST", WEBHOOKS, {"url": URL, **fields})

        assert answer.status_code == 422, answer.text
        assert [one["path"] for one in answer.get_json()] == [path]

    def test_a_shop_that_connects_again_keeps_one_webhook_with_its_new_secret(
        self, plugin: Plugin, world: World, shops: EndpointShops
    ) -> None:
        """WooCommerce creates a webhook at each connection, and knows only the secret of the last one."""
        first = plugin.succeed("POST", WEBHOOKS, {"url": URL, "enabled": False})
        again = Plugin.connect(world)
        waiting = again.create()

        second = again.succeed("POST", WEBHOOKS, {"url": URL, "secret": SECRET})
        again.pay(waiting)
        settle_down(world)

        assert (second["id"], second["enabled"], second["secret"]) == (first["id"], True, SECRET)
        assert len(again.get(WEBHOOKS)) == 1
        assert shops.types(URL) == FOUR
        signatures = [hmac.new(SECRET.encode(), one.content, hashlib.sha256).hexdigest() for one in shops.calls]
        assert [one.headers["BTCPay-Sig"] for one in shops.calls] == [f"sha256={one}" for one in signatures]

    def test_an_endpoint_of_the_operator_at_the_same_address_stays(self, plugin: Plugin, world: World) -> None:
        other = add_endpoint(world, form=EndpointForm.BTCPAY)

        made = plugin.succeed("POST", WEBHOOKS, {"url": other.url})

        assert made["id"] != other.public_id
        assert len(plugin.get(WEBHOOKS)) == 2

    def test_an_endpoint_that_is_not_of_this_form_is_not_there(self, plugin: Plugin, world: World) -> None:
        other = add_endpoint(world, form=EndpointForm.STANDARD)

        assert plugin.get(WEBHOOKS) == []
        assert plugin.call("DELETE", f"{WEBHOOKS}/{other.public_id}").status_code == 404


class TestWhatAPluginHears:
    @pytest.fixture
    def connected(self, plugin: Plugin, shops: EndpointShops) -> Plugin:
        plugin.succeed("POST", WEBHOOKS, {"url": URL, "secret": SECRET})
        return plugin

    def test_the_four_events_of_a_payment_in_their_order(
        self, connected: Plugin, world: World, shops: EndpointShops
    ) -> None:
        made = connected.create(metadata={"request_key": "a", "n": [1, None]})
        connected.pay(made)
        settle_down(world)

        assert shops.types(URL) == ["InvoiceCreated", *FOUR]
        for call in shops.calls:
            assert call.headers["BTCPay-Sig"] == (
                "sha256=" + hmac.new(SECRET.encode(), call.content, hashlib.sha256).hexdigest()
            )
            assert call.body["invoiceId"] == made["id"]
            assert call.body["storeId"] == connected.store
            assert call.body["metadata"] == {"request_key": "a", "n": [1, None]}
        payments = [one["payment"] for one in shops.accepted(URL) if "payment" in one]
        (method,) = connected.get(f"stores/{{store}}/invoices/{made['id']}/payment-methods")
        assert payments == [method["payments"][0]] * 2

    def test_an_invoice_that_is_given_up_is_invalid_and_nothing_else(
        self, connected: Plugin, world: World, shops: EndpointShops
    ) -> None:
        made = connected.create()
        world.wait(5)
        connected.succeed("POST", f"stores/{{store}}/invoices/{made['id']}/status", {"status": "Invalid"})
        world.wait(5)
        connected.pay(made)
        settle_down(world)

        assert shops.types(URL) == ["InvoiceCreated", "InvoiceInvalid"]
        assert world.refund(connected.row(made)) is not None

    def test_metadata_that_was_replaced_is_what_it_hears(
        self, connected: Plugin, world: World, shops: EndpointShops
    ) -> None:
        made = connected.create(metadata={"orderId": "1"})
        connected.succeed("PUT", f"stores/{{store}}/invoices/{made['id']}", {"metadata": {"orderId": "2"}})
        connected.pay(made)
        settle_down(world)

        assert [one["metadata"]["orderId"] for one in shops.accepted(URL)] == ["1", "2", "2", "2", "2"]


LATE_SECONDS = 1_000
"""After the deadline of an invoice of fifteen minutes."""


class TestLatePayment:
    """The money trap: a plugin ships on anything that names a late payment, and LNPay refunds it."""

    @pytest.fixture
    def connected(self, plugin: Plugin, world: World, shops: EndpointShops) -> Plugin:
        plugin.succeed("POST", WEBHOOKS, {"url": URL, "secret": SECRET})
        return plugin

    def assert_refunded_and_unseen(self, plugin: Plugin, world: World, shops: EndpointShops, made: Any) -> None:
        """Check everything that a plugin can read or hear, and that there is one refund."""
        settle_down(world)
        read = plugin.read(made)
        (method,) = plugin.get(f"stores/{{store}}/invoices/{made['id']}/payment-methods")

        assert shops.types(URL) == ["InvoiceCreated", "InvoiceExpired"]
        assert not is_settled(read)
        assert (read["status"], read["additionalStatus"], read["paidAmount"]) == ("Expired", "None", "0")
        assert (method["payments"], method["totalPaid"], method["due"]) == ([], "0", method["amount"])
        assert [one["id"] for one in plugin.get("stores/{store}/invoices?status=Settled")] == []
        assert world.refund(plugin.row(made)) is not None
        # It waits for the customer's address; then it is sent, once.
        world.client.post(f"/refund/{self.token(plugin, world, made)}", data={"ln_address": "ann@wallet.test"})
        for _ in range(3):
            refund_pass(world.backend)
            world.wait(61)
        refund = world.refund(plugin.row(made))
        assert refund is not None
        assert refund.state is RefundState.SENT
        executed = [call for call in world.calls("PATCH") if call.endswith("/execute")]
        assert len(executed) == 1
        assert shops.types(URL) == ["InvoiceCreated", "InvoiceExpired"]
        assert plugin.read(made)["status"] == "Expired"

    def token(self, plugin: Plugin, world: World, made: Any) -> str:
        refund = world.refund(plugin.row(made))
        assert refund is not None
        return refund.token

    def test_by_webhook_after_the_expiry(self, connected: Plugin, world: World, shops: EndpointShops) -> None:
        world.subscribe()
        made = connected.create()
        world.wait(LATE_SECONDS)
        settle_down(world)
        connected.pay(made)
        world.pump()

        self.assert_refunded_and_unseen(connected, world, shops, made)

    def test_by_webhook_before_a_worker_saw_the_expiry(
        self, connected: Plugin, world: World, shops: EndpointShops
    ) -> None:
        world.subscribe()
        made = connected.create()
        world.wait(LATE_SECONDS)
        connected.pay(made)
        world.pump()

        self.assert_refunded_and_unseen(connected, world, shops, made)

    def test_by_the_poller(self, connected: Plugin, world: World, shops: EndpointShops) -> None:
        made = connected.create()
        world.wait(LATE_SECONDS)
        settle_down(world)
        connected.pay(made)

        self.assert_refunded_and_unseen(connected, world, shops, made)

    def test_by_the_poller_after_a_restart(self, connected: Plugin, world: World, shops: EndpointShops) -> None:
        made = connected.create()
        world.wait(LATE_SECONDS)
        connected.pay(made)
        world.restart()
        plugin = Plugin(world, connected.key, connected.store)

        self.assert_refunded_and_unseen(plugin, world, shops, made)

    def test_while_it_is_not_final_it_is_not_shown_either(
        self, connected: Plugin, world: World, shops: EndpointShops
    ) -> None:
        made = connected.create()
        world.wait(LATE_SECONDS)
        world.simulator.pay_invoice(connected.row(made).issue.bolt11, pending_seconds=60)
        main_pass(world.backend)

        assert connected.read(made)["status"] == "Expired"

    def test_a_payment_in_time_that_is_noticed_late_is_settled(
        self, connected: Plugin, world: World, shops: EndpointShops
    ) -> None:
        made = connected.create()
        connected.pay(made)
        world.wait(LATE_SECONDS)
        settle_down(world)

        assert shops.types(URL) == ["InvoiceCreated", *FOUR]
        assert is_settled(connected.read(made))
        assert world.refund(connected.row(made)) is None
