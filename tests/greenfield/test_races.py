"""An invoice that is given up at the moment of its payment, over both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from lnpay.domain.errors import Conflict
from lnpay.domain.states import InvoiceState
from lnpay.invoices.mark_invalid import mark_invalid
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.runtime.worker_passes import main_pass
from tests.endpoint_shop import add_endpoint, open_shops
from tests.greenfield.shop import Plugin, is_settled
from tests.world import World

ORDERS = 12


@pytest.fixture
def world(world_of_each_database: World) -> World:
    return world_of_each_database


def mark(world: World, made: Any) -> None:
    """Give an invoice up, unless it is too late for that."""
    with suppress(Conflict):
        mark_invalid(world.backend.settlement, made["id"])


def test_a_payment_that_was_first_is_settled_despite_changes_in_between(plugin: Plugin, world: World) -> None:
    open_shops(world)
    add_endpoint(world)
    orders = [plugin.create() for _ in range(ORDERS)]
    for made in orders:
        plugin.pay(made)
    world.wait(5)

    with ThreadPoolExecutor(2 * ORDERS) as pool:
        marks = [pool.submit(mark, world, made) for made in orders]
        looks = [pool.submit(reconcile_invoice, world.backend.settlement, made["id"]) for made in orders]
        for one in marks:
            one.result()
        for look in looks:
            look.result()
    main_pass(world.backend)

    for made in orders:
        assert is_settled(plugin.read(made))
        assert plugin.row(made).state is InvoiceState.SETTLED
        assert world.refund(plugin.row(made)) is None


def test_marked_by_two_at_once_it_is_marked_once(plugin: Plugin, world: World) -> None:
    open_shops(world)
    add_endpoint(world)
    made = plugin.create()
    world.wait(5)

    with ThreadPoolExecutor(8) as pool:
        marked = list(pool.map(lambda _: mark_invalid(world.backend.settlement, made["id"]), range(8)))
    world.wait(5)
    plugin.pay(made)

    assert len({one.marked_invalid_at for one in marked}) == 1
    outcomes = [reconcile_invoice(world.backend.settlement, made["id"]) for _ in range(2)]
    assert outcomes == [Outcome.PAID_LATE, Outcome.ALREADY]
    with world.backend.repository.reading() as tx:
        told = [one.event_type for one in tx.deliveries.of_invoice(plugin.row(made).id) if one.endpoint_id is not None]
    assert sorted(told) == ["InvoiceCreated", "InvoiceInvalid"]
