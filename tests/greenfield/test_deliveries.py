"""What a plugin reads about the messages to its webhook, and what it hears when one is sent again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from lnpay.deliveries.endpoints import get_endpoint
from lnpay.deliveries.owe import owe_settled
from lnpay.deliveries.redeliver import redeliver
from lnpay.deliveries.send import send_again, send_due
from lnpay.domain.errors import Conflict, ShopRefused
from lnpay.domain.permissions import KeyPurpose, Permission
from lnpay.domain.states import DeliveryState, EndpointForm, InvoiceState
from lnpay.invoices.sweep import Sweep, expire_due
from lnpay.runtime.worker_passes import expired_pass, main_pass
from lnpay.web.admin.timeline import timeline
from tests.endpoint_shop import FOUR, EndpointShops, add_endpoint, open_shops
from tests.greenfield.shop import Plugin
from tests.world import World

URL = "https://shop.test/wc-api/btcpaygf_default/"
OTHER_URL = "https://other.test/hook"
LATE_SECONDS = 1_000
ALL = ["InvoiceCreated", *FOUR]


@pytest.fixture
def world(world_of_each_database: World) -> World:
    return world_of_each_database


@pytest.fixture
def shops(world: World) -> EndpointShops:
    return open_shops(world)


class Hook:
    """A webhook of a plugin, and its deliveries."""

    def __init__(self, plugin: Plugin, url: str = URL, **more: Any) -> None:
        self.plugin, self.url = plugin, url
        self.id = plugin.succeed("POST", "stores/{store}/webhooks", {"url": url, **more})["id"]
        self.path = f"stores/{{store}}/webhooks/{self.id}/deliveries"

    def deliveries(self, query: str = "") -> list[Any]:
        found: list[Any] = self.plugin.get(self.path + query)
        return found

    def request(self, delivery: Any) -> Any:
        return self.plugin.get(f"{self.path}/{delivery['id']}/request")

    def of_type(self, name: str) -> Any:
        """The newest delivery of that event."""
        return next(one for one in self.deliveries() if self.request(one)["type"] == name)

    def redeliver(self, delivery: Any) -> str:
        new_id: str = self.plugin.succeed("POST", f"{self.path}/{delivery['id']}/redeliver")
        return new_id


@pytest.fixture
def hook(plugin: Plugin, shops: EndpointShops) -> Hook:
    return Hook(plugin)


def settle_down(world: World) -> None:
    for _ in range(3):
        main_pass(world.backend)
        expired_pass(world.backend)
        send_due(world.backend.outbox)
        world.wait(61)


def sell(hook: Hook, world: World, **fields: Any) -> Any:
    made = hook.plugin.create(**fields)
    hook.plugin.pay(made)
    settle_down(world)
    return made


class TestReading:
    def test_a_sale_from_the_newest_to_the_oldest(self, hook: Hook, world: World, shops: EndpointShops) -> None:
        made = sell(hook, world)

        found = hook.deliveries()

        assert [hook.request(one)["type"] for one in found] == ALL[::-1]
        assert [hook.request(one) for one in found] == shops.accepted(URL)[::-1]
        for one in found:
            assert one == {
                "id": hook.request(one)["deliveryId"],
                "timestamp": one["timestamp"],
                "httpCode": 200,
                "errorMessage": None,
                "status": "HttpSuccess",
            }
            assert made["createdTime"] <= one["timestamp"] <= int(world.clock().timestamp())
            assert hook.plugin.get(f"{hook.path}/{one['id']}") == one
        assert hook.deliveries("?count=2") == found[:2]
        assert hook.deliveries("?count=0") == []
        assert hook.deliveries("?count=1000000") == found

    @pytest.mark.parametrize("count", ["-1", "x", "1.5", "9999999999999999"])
    def test_a_count_that_is_none_is_refused(self, hook: Hook, count: str) -> None:
        answer = hook.plugin.call("GET", f"{hook.path}?count={count}")

        assert (answer.status_code, [one["path"] for one in answer.get_json()]) == (422, ["count"])

    def test_what_the_shop_answers_is_shown(self, hook: Hook, world: World, shops: EndpointShops) -> None:
        shops.answers[URL] = lambda body: 500 if body["type"] == "InvoiceReceivedPayment" else 200
        hook.plugin.pay(hook.plugin.create())
        main_pass(world.backend)
        send_due(world.backend.outbox)

        settled, *_, received, created = hook.deliveries()

        assert (created["status"], created["httpCode"]) == ("HttpSuccess", 200)
        assert (received["status"], received["httpCode"]) == ("HttpError", 500)
        assert received["errorMessage"] == "the shop answered 500"
        assert (settled["status"], settled["httpCode"]) == ("Failed", None)
        assert settled["errorMessage"] == "it has not been sent yet"

    def test_what_was_withdrawn_says_so(self, hook: Hook, world: World) -> None:
        made = hook.plugin.create()
        hook.plugin.pay(made)
        expire_unseen(world, hook)
        main_pass(world.backend)

        expiry = hook.of_type("InvoiceExpired")

        assert (expiry["status"], expiry["errorMessage"]) == ("Failed", "it was not sent: it was no longer true")

    def test_without_an_answer_there_is_no_code(self, hook: Hook, world: World, shops: EndpointShops) -> None:
        def refuse(_: Any) -> int:
            raise ShopRefused("the shop did not answer")

        shops.answers[URL] = refuse
        hook.plugin.create()
        send_due(world.backend.outbox)

        (created,) = hook.deliveries()

        assert (created["status"], created["httpCode"]) == ("Failed", None)
        assert created["errorMessage"] == "the shop did not answer"


class TestWhoMay:
    def calls(self, hook: Hook, webhook: str, delivery: str) -> list[tuple[str, str]]:
        path = f"stores/{{store}}/webhooks/{webhook}/deliveries"
        one = f"{path}/{delivery}"
        return [("GET", path), ("GET", one), ("GET", f"{one}/request"), ("POST", f"{one}/redeliver")]

    def test_a_key_without_the_right_is_refused_by_its_name(self, hook: Hook, world: World) -> None:
        sell(hook, world)
        poor = Plugin.connect(world, KeyPurpose.CUSTOM, (Permission.VIEW_INVOICES,))

        for method, path in self.calls(hook, hook.id, hook.deliveries()[0]["id"]):
            answer = poor.call(method, path)
            assert answer.status_code == 403
            assert answer.get_json()["missingPermission"] == Permission.MODIFY_WEBHOOKS
            assert hook.plugin.call(method, path, store="another").status_code == 403

    def test_deliveries_of_another_webhook_are_not_there(self, hook: Hook, world: World) -> None:
        other = Hook(hook.plugin, OTHER_URL)
        sell(hook, world)
        foreign = other.deliveries()[0]["id"]

        for name in (foreign, "unknown", "%00", "é"):
            for method, path in self.calls(hook, hook.id, name)[1:]:
                answer = hook.plugin.call(method, path)
                assert (answer.status_code, answer.get_json()["code"]) == (404, "webhookdelivery-not-found")

    def test_webhooks_of_another_form_or_none_are_not_there(self, hook: Hook, world: World) -> None:
        standard = add_endpoint(world, "https://own.test/", EndpointForm.STANDARD)
        sell(hook, world)
        known = hook.deliveries()[0]["id"]

        for name in (standard.public_id, "unknown"):
            for method, path in self.calls(hook, name, known):
                answer = hook.plugin.call(method, path)
                assert (answer.status_code, answer.get_json()["code"]) == (404, "webhook-not-found")


class TestSendingAgain:
    def test_it_is_another_delivery_of_the_same_event(self, hook: Hook, world: World, shops: EndpointShops) -> None:
        made = sell(hook, world, metadata={"orderId": "1"})
        first = hook.of_type("InvoiceSettled")
        hook.plugin.succeed("PUT", f"stores/{{store}}/invoices/{made['id']}", {"metadata": {"orderId": "2"}})

        new_id = hook.redeliver(first)
        send_due(world.backend.outbox)

        original = hook.request(first)
        said = {**original, "deliveryId": new_id, "isRedelivery": True, "metadata": {"orderId": "2"}}
        assert new_id != first["id"]
        assert shops.accepted(URL)[-1] == said
        assert said["originalDeliveryId"] == first["id"]
        assert [one["id"] for one in hook.deliveries()[:2]] == [new_id, first["id"]]
        assert shops.types(URL) == [*ALL, "InvoiceSettled"]

    def test_a_repetition_of_a_repetition_names_the_first(self, hook: Hook, world: World) -> None:
        sell(hook, world)
        first = hook.of_type("InvoiceSettled")
        second = hook.redeliver(first)
        send_due(world.backend.outbox)

        third = hook.redeliver({"id": second})
        send_due(world.backend.outbox)

        assert len({first["id"], second, third}) == 3
        assert hook.request({"id": third})["originalDeliveryId"] == first["id"]

    def test_requested_twice_before_it_is_sent_it_is_sent_once(
        self, hook: Hook, world: World, shops: EndpointShops
    ) -> None:
        sell(hook, world)
        first = hook.of_type("InvoiceSettled")

        assert hook.redeliver(first) == hook.redeliver(first)
        send_due(world.backend.outbox)

        assert shops.types(URL) == [*ALL, "InvoiceSettled"]

    def test_one_that_is_being_retried_is_replaced_in_its_place(
        self, hook: Hook, world: World, shops: EndpointShops
    ) -> None:
        shops.answers[URL] = lambda body: 500 if body["type"] == FOUR[0] else 200
        hook.plugin.pay(hook.plugin.create())
        main_pass(world.backend)
        send_due(world.backend.outbox)
        refused = hook.of_type(FOUR[0])
        shops.answers.clear()

        new_id = hook.redeliver(refused)
        send_due(world.backend.outbox)
        world.wait(100_000)
        send_due(world.backend.outbox)

        assert shops.types(URL) == ALL
        assert shops.accepted(URL)[1]["deliveryId"] == new_id
        assert shops.accepted(URL)[1]["originalDeliveryId"] == refused["id"]
        assert hook.plugin.get(f"{hook.path}/{refused['id']}")["status"] == "HttpError"

    def test_one_that_was_given_up_no_longer_counts_as_abandoned(
        self, plugin: Plugin, world: World, shops: EndpointShops
    ) -> None:
        hook = Hook(plugin, automaticRedelivery=False)
        shops.answers[URL] = lambda _: 500
        made = plugin.create()
        send_due(world.backend.outbox)
        shops.answers.clear()

        hook.redeliver(hook.of_type("InvoiceCreated"))
        send_due(world.backend.outbox)

        with world.backend.repository.reading() as tx:
            found = tx.deliveries.of_invoice(plugin.row(made).id)
        assert [one.state for one in found] == [DeliveryState.WITHDRAWN, DeliveryState.DELIVERED]

    def test_the_operator_reads_why_it_is_not_retried(self, hook: Hook, world: World, shops: EndpointShops) -> None:
        shops.answers[URL] = lambda _: 500
        made = hook.plugin.create()
        send_due(world.backend.outbox)
        hook.redeliver(hook.deliveries()[0])

        with world.backend.repository.reading() as tx:
            found = tx.deliveries.of_invoice(hook.plugin.row(made).id)
        told = [one.text for one in timeline(hook.plugin.row(made), [], found, world.clock())]

        assert "InvoiceCreated is not retried: the shop has requested it again." in told
        assert "The shop is owed InvoiceCreated again." in told

    def test_one_that_waits_for_others_keeps_its_id_and_its_place(
        self, hook: Hook, world: World, shops: EndpointShops
    ) -> None:
        shops.answers[URL] = lambda body: 500 if body["type"] == FOUR[0] else 200
        hook.plugin.pay(hook.plugin.create())
        main_pass(world.backend)
        send_due(world.backend.outbox)
        waiting = hook.of_type("InvoiceSettled")
        shops.answers.clear()

        assert hook.redeliver(waiting) == waiting["id"]
        send_due(world.backend.outbox)
        assert shops.types(URL) == ["InvoiceCreated"]
        world.wait(100)
        send_due(world.backend.outbox)

        assert shops.types(URL) == ALL
        assert not any(one["isRedelivery"] for one in shops.accepted(URL))

    def test_it_waits_for_what_is_owed_before_it(self, hook: Hook, world: World, shops: EndpointShops) -> None:
        shops.answers[URL] = lambda body: 500 if body["type"] == FOUR[0] else 200
        hook.plugin.pay(hook.plugin.create())
        main_pass(world.backend)
        send_due(world.backend.outbox)
        shops.answers.clear()

        hook.redeliver(hook.of_type("InvoiceCreated"))
        send_due(world.backend.outbox)
        assert shops.types(URL) == ["InvoiceCreated"]
        world.wait(100)
        send_due(world.backend.outbox)

        assert shops.types(URL) == [*ALL, "InvoiceCreated"]

    def test_another_webhook_hears_nothing_of_it(self, hook: Hook, world: World, shops: EndpointShops) -> None:
        Hook(hook.plugin, OTHER_URL)
        sell(hook, world)

        hook.redeliver(hook.of_type("InvoiceSettled"))
        send_due(world.backend.outbox)

        assert len(shops.types(URL)) == len(shops.types(OTHER_URL)) + 1 == 6

    def test_the_operator_sends_each_again_under_its_own_id(
        self, hook: Hook, world: World, shops: EndpointShops
    ) -> None:
        made = sell(hook, world)
        hook.redeliver(hook.of_type("InvoiceSettled"))
        send_due(world.backend.outbox)
        before = [one["deliveryId"] for one in shops.accepted(URL)]

        send_again(world.backend.repository, made["id"], world.clock())
        send_due(world.backend.outbox)

        assert [one["deliveryId"] for one in shops.accepted(URL)] == before * 2


def expire_unseen(world: World, hook: Hook) -> None:
    """Let every open invoice expire as if Strike had shown no payment; the shop is not told of it yet."""
    world.wait(LATE_SECONDS)
    world.backend.strike.measure_time()
    blind = Sweep(
        world.backend.clock(),
        world.backend.strike.time.steady(),
        since=world.backend.clock() - timedelta(days=1),
    )
    assert expire_due(world.backend.sweep_settlement, blind) == 1


class TestUntruths:
    def test_the_expiry_of_a_paid_order_is_refused(self, hook: Hook, world: World, shops: EndpointShops) -> None:
        """The shop has taken the expiry, and learns of the payment afterwards."""
        made = hook.plugin.create()
        hook.plugin.pay(made)
        expire_unseen(world, hook)
        send_due(world.backend.outbox)
        expiry = hook.of_type("InvoiceExpired")
        main_pass(world.backend)
        send_due(world.backend.outbox)

        answer = hook.plugin.call("POST", f"{hook.path}/{expiry['id']}/redeliver")
        world.wait(100)
        send_due(world.backend.outbox)

        assert (answer.status_code, answer.get_json()["code"]) == (409, "webhookdelivery-withdrawn")
        assert shops.types(URL) == ["InvoiceCreated", "InvoiceExpired", *FOUR]

    def test_one_that_waits_to_be_sent_again_is_withdrawn_by_the_payment(
        self, hook: Hook, world: World, shops: EndpointShops
    ) -> None:
        made = hook.plugin.create()
        hook.plugin.pay(made)
        expire_unseen(world, hook)
        send_due(world.backend.outbox)
        hook.redeliver(hook.of_type("InvoiceExpired"))
        main_pass(world.backend)
        world.wait(100)
        send_due(world.backend.outbox)

        assert shops.types(URL) == ["InvoiceCreated", "InvoiceExpired", *FOUR]

    def test_of_a_late_payment_there_is_only_the_expiry(self, hook: Hook, world: World, shops: EndpointShops) -> None:
        made = hook.plugin.create()
        world.wait(LATE_SECONDS)
        settle_down(world)
        hook.plugin.pay(made)
        settle_down(world)

        for one in hook.deliveries():
            hook.redeliver(one)
            settle_down(world)

        assert world.refund(hook.plugin.row(made)) is not None
        assert shops.types(URL) == ["InvoiceCreated", "InvoiceExpired", "InvoiceExpired", "InvoiceCreated"]
        assert hook.plugin.read(made)["status"] == "Expired"

    @pytest.mark.parametrize("by", ["plugin", "operator"])
    def test_it_waits_for_a_payment_that_is_being_settled(
        self, hook: Hook, world: World, shops: EndpointShops, by: str
    ) -> None:
        """Otherwise the settling would not see the repeated expiry, and the shop would hear it after the payment."""
        made = hook.plugin.create()
        hook.plugin.pay(made)
        expire_unseen(world, hook)
        send_due(world.backend.outbox)
        expiry = hook.of_type("InvoiceExpired")["id"]
        is_open, repository = Event(), world.backend.repository

        def repeat() -> None:
            is_open.wait(10)
            if by == "operator":
                send_again(repository, made["id"], world.clock())
            else:
                with suppress(Conflict):
                    redeliver(world.backend.outbox, get_endpoint(world.backend.outbox, hook.id), expiry)

        with ThreadPoolExecutor(1) as pool:
            with repository.transaction() as tx:
                invoice = hook.plugin.row(made)
                paid_at = world.clock()
                assert tx.invoices.mark_paid(
                    invoice.id, InvoiceState.SETTLED, paid_at=paid_at, received_sats=invoice.amount_sats, at=paid_at
                )
                owe_settled(tx, frozenset(), invoice, paid_at)
                repeating = pool.submit(repeat)
                is_open.set()
                with suppress(TimeoutError):
                    repeating.result(1)
            repeating.result(10)
        world.wait(100)
        send_due(world.backend.outbox)

        assert "InvoiceExpired" not in shops.types(URL)[2:]
        assert shops.types(URL)[-1] == "InvoiceSettled"
