"""The messages to the shop about refunds: each has messages of its own, in order, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lnpay.deliveries.send import send_due
from lnpay.domain.model import Refund
from lnpay.domain.states import EndpointForm, RefundState
from lnpay.refunds.by_hand import give_address
from lnpay.refunds.merchant import cancel_refund, withdraw_expired_claims
from lnpay.runtime.worker_passes import refund_pass
from tests.databases import migrated_postgres
from tests.endpoint_shop import EndpointShops, add_endpoint, open_shops
from tests.owing import ADDRESS, owe
from tests.refunding import one_refund, refund, sell_paid
from tests.world import ALL_EVENTS, World

URL = "https://shop.test/hook"


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A world with a standard endpoint and a plugin's, over each kind of database."""
    if request.param == "sqlite":
        world = World.make(tmp_path, delivery_events=ALL_EVENTS)
        yield world
        world.close()
        return
    with migrated_postgres(request.getfixturevalue("postgres_server")) as url:
        world = World.make(tmp_path, delivery_events=ALL_EVENTS, database_url=url)
        yield world
        world.close()


@pytest.fixture
def shops(shop: World) -> EndpointShops:
    shops = open_shops(shop)
    add_endpoint(shop, URL, form=EndpointForm.STANDARD)
    add_endpoint(shop, "https://plugin.test/hook")
    return shops


def finish(world: World) -> None:
    for _ in range(3):
        refund_pass(world.backend)
        send_due(world.backend.outbox)
        world.wait(61)


def about(shops: EndpointShops, made: Refund) -> list[str]:
    return [one["type"] for one in shops.accepted(URL) if one["data"].get("refund", {}).get("id") == made.id]


def test_two_refunds_of_one_order_have_messages_of_their_own(shop: World, shops: EndpointShops) -> None:
    invoice = sell_paid(shop)
    first = refund(shop, invoice, "a", amount_sats=5_000)
    again = refund(shop, invoice, "a", amount_sats=5_000)
    second = refund(shop, invoice, "b", amount_sats=6_000)
    finish(shop)

    assert again.id == first.id
    assert about(shops, first) == about(shops, second) == ["refund.created", "refund.sent"]
    sent = [one for one in shops.accepted(URL) if one["type"] == "refund.sent"]
    assert sorted(one["data"]["refund"]["amount_sats"] for one in sent) == [5_000, 6_000]
    assert {one["data"]["refund"]["kind"] for one in sent} == {"merchant"}
    hook = [one.event_type for one in shop.deliveries(invoice) if one.endpoint_id is None]
    assert sorted(hook) == ["invoice.settled"] + ["refund.created"] * 2 + ["refund.sent"] * 2
    assert shops.types("https://plugin.test/hook")[-1] == "InvoiceSettled"


def test_a_refund_without_an_address_asks_for_one_and_is_sent(shop: World, shops: EndpointShops) -> None:
    made = refund(shop, sell_paid(shop), address=None)
    give_address(shop.backend.repository, made.token, ADDRESS, shop.clock())
    finish(shop)

    assert about(shops, made) == ["refund.created", "refund.needs_address", "refund.sent"]


@pytest.mark.parametrize("is_claim_over", [False, True])
def test_a_canceled_refund_is_reported_once(shop: World, shops: EndpointShops, is_claim_over: bool) -> None:
    made = refund(shop, sell_paid(shop), address=None)
    if is_claim_over:
        shop.wait(shop.backend.refund_issuer.claim_length.total_seconds() + 1)
        assert withdraw_expired_claims(shop.backend.refund_issuer) == 1
    for _ in range(2):
        cancel_refund(shop.backend.refund_issuer, made.id)
    finish(shop)

    assert one_refund(shop, made).state is RefundState.CANCELED
    assert about(shops, made) == ["refund.created", "refund.needs_address", "refund.canceled"]


def test_the_refund_of_a_late_payment_is_named_too(shop: World, shops: EndpointShops) -> None:
    invoice = owe(shop)
    finish(shop)
    made = shop.refund(invoice)
    assert made is not None

    assert shops.types(URL) == ["invoice.paid_late", "refund.sent"]
    assert about(shops, made) == ["refund.sent"]
    assert shops.accepted(URL)[-1]["data"]["refund"]["kind"] == "late"


def test_an_older_process_may_add_messages_to_the_new_tables(shop: World) -> None:
    invoice = sell_paid(shop)
    with shop.backend.repository.transaction() as tx:
        assert tx.deliveries.add(invoice.id, "refund.sent", "msg_1", "{}", shop.clock())
        assert not tx.deliveries.add(invoice.id, "refund.sent", "msg_2", "{}", shop.clock())
        assert tx.deliveries.add(invoice.id, "refund.sent", "msg_3", "{}", shop.clock(), refund_id=7)
