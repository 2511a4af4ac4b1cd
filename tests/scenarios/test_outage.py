"""The shop's server is down for days, and LNPay restarts meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from lnpay.domain.states import DeliveryState
from lnpay.runtime.worker_passes import main_pass
from tests.world import World

HOUR = 3600
PASS_EVERY_SECONDS = 900


def ids_tried(world: World) -> dict[str, set[str]]:
    """The webhook-ids of every call to the shop, accepted or not, by invoice."""
    found: dict[str, set[str]] = defaultdict(set)
    for delivery in world.simulator.shop.deliveries:
        found[delivery.json()["data"]["invoice_id"]].add(delivery.headers["webhook-id"])
    return found


def let_pass(world: World, hours: float, *, restart_every_hours: float = 6) -> Iterator[timedelta]:
    """Let time pass: a pass every quarter of an hour, a restart every few hours. Yields the time since the start."""
    start = world.simulator.clock.now()
    end = start + timedelta(hours=hours)
    restart_at = start
    while world.simulator.clock.now() < end:
        if world.simulator.clock.now() >= restart_at:
            world.restart()
            restart_at += timedelta(hours=restart_every_hours)
        main_pass(world.backend)
        world.wait(PASS_EVERY_SECONDS)
        yield world.simulator.clock.now() - start


def sell_and_pay(world: World) -> str:
    """Strike's id of an invoice that was just paid."""
    invoice = world.sell()
    world.pay(invoice)
    return invoice.strike_invoice_id


def test_a_shop_that_is_down_for_three_days_gets_every_event_under_one_id(world: World) -> None:
    world.simulator.shop.answer_with(503, times=None)
    paid: list[str] = []
    for elapsed in let_pass(world, hours=72):
        # One sale every six hours: the first for the worker to find, the later ones told of by the provider.
        if elapsed >= timedelta(hours=6 * len(paid)):
            if len(paid) == 6:
                world.subscribe()
            paid.append(sell_and_pay(world))
            world.pump()
    assert world.told() == []

    world.simulator.shop.answer_with(200, times=None)
    for _ in let_pass(world, hours=30):
        if len(world.told()) == len(paid):
            break

    assert len(paid) == 13
    assert sorted(told["data"]["invoice_id"] for told in world.told()) == sorted(paid)
    assert {len(ids) for ids in ids_tried(world).values()} == {1}
    assert set(ids_tried(world)) == set(paid)


def test_a_shop_that_is_down_for_75_hours_is_still_told(world: World) -> None:
    world.simulator.shop.answer_with(500, times=None)
    paid = sell_and_pay(world)
    for _ in let_pass(world, hours=75):
        pass

    world.simulator.shop.answer_with(200, times=None)
    for _ in let_pass(world, hours=12):
        pass

    assert [told["data"]["invoice_id"] for told in world.told()] == [paid]
    assert {len(ids) for ids in ids_tried(world).values()} == {1}


def test_a_shop_that_never_comes_back_is_given_up_and_delays_no_other(world: World) -> None:
    world.simulator.shop.answer_with(500, times=None)
    lost = sell_and_pay(world)
    for _ in let_pass(world, hours=90, restart_every_hours=24):
        pass
    tries = len(world.simulator.shop.deliveries)
    world.simulator.shop.answer_with(200, times=None)

    later = sell_and_pay(world)
    for _ in let_pass(world, hours=24, restart_every_hours=24):
        pass

    assert [told["data"]["invoice_id"] for told in world.told()] == [later]
    assert len(world.simulator.shop.deliveries) == tries + 1
    with world.backend.repository.reading() as tx:
        states = [delivery.state for delivery in tx.deliveries.of_invoice(world.invoice(lost).id)]
    assert states == [DeliveryState.ABANDONED]
