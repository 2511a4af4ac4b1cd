"""The process ends at any moment around a receive request: nothing is lost, and nothing is owed twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import InvoiceState
from lnpay.invoices.receives import reconcile_request
from lnpay.runtime.worker_passes import main_pass
from tests.integration.receiving.conftest import Open
from tests.integration.receiving.test_receives import events_of, pay, receives_of, refunds_of
from tests.owing import ADDRESS, Crash, Moments
from tests.world import World

MOST_MOMENTS = 60


@pytest.fixture
def open_one(make_world: Open) -> Callable[[], World]:
    """Make a world of its own for each moment."""
    return lambda: make_world(
        receive_with=ReceiveWith.RECEIVE_REQUEST, delivery_events=frozenset(str(one) for one in EventType)
    )


def crash() -> None:
    raise Crash


@pytest.mark.parametrize("is_inside", [False, pytest.param(True, marks=pytest.mark.untraced)])
def test_a_payment_beyond_the_price_counts_once_and_is_owed_back_once(
    open_one: Callable[[], World], is_inside: bool
) -> None:
    for fatal in range(MOST_MOMENTS):
        world = open_one()
        invoice = world.sell(ln_address=ADDRESS)
        pay(world, invoice)
        pay(world, invoice, 700)
        moments = Moments(world, fatal, crash, is_inside=is_inside)
        try:
            reconcile_request(world.backend.settlement, invoice.strike_invoice_id)
        except Crash:
            world.restart()
        moments.end()
        for _ in range(2):
            reconcile_request(world.backend.settlement, invoice.strike_invoice_id)

        assert_paid_and_owed(world, invoice, 700)
        if not moments.is_over:
            assert fatal >= 4
            return
    raise AssertionError("there are more moments than were tried")


@pytest.mark.parametrize("is_inside", [False, pytest.param(True, marks=pytest.mark.untraced)])
def test_a_part_that_is_over_is_refunded_once(open_one: Callable[[], World], is_inside: bool) -> None:
    for fatal in range(MOST_MOMENTS):
        world = open_one()
        invoice = world.sell(ln_address=ADDRESS)
        pay(world, invoice, 700)
        world.wait(600)
        moments = Moments(world, fatal, crash, is_inside=is_inside)
        try:
            main_pass(world.backend)
        except Crash:
            world.restart()
        moments.end()
        for _ in range(3):
            world.wait(61)
            main_pass(world.backend)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE
        assert [one.amount_sats for one in refunds_of(world, invoice)] == [700]
        assert len(receives_of(world, invoice)) == 1
        if not moments.is_over:
            assert fatal >= 4
            return
    raise AssertionError("there are more moments than were tried")


def test_an_order_whose_process_ends_while_its_request_is_made_shows_one_request(
    open_one: Callable[[], World],
) -> None:
    for fatal in range(MOST_MOMENTS):
        world = open_one()
        moments = Moments(world, fatal, crash, is_inside=True)
        try:
            world.sell(correlation_id="order-1", ln_address=ADDRESS)
        except Crash:
            world.restart()
        moments.end()
        invoice = world.sell(correlation_id="order-1", ln_address=ADDRESS)
        pay(world, invoice)
        pay(world, invoice, 700)
        reconcile_request(world.backend.settlement, invoice.strike_invoice_id)

        assert_paid_and_owed(world, invoice, 700)
        assert world.count_rows() == 1 + 1 + len(world.deliveries(invoice))
        if not moments.is_over:
            assert fatal >= 4
            return
    raise AssertionError("there are more moments than were tried")


def assert_paid_and_owed(world: World, invoice: Invoice, sats: int) -> None:
    assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
    assert len(receives_of(world, invoice)) == 2
    assert [one.amount_sats for one in refunds_of(world, invoice)] == [sats]
    assert events_of(world, invoice).count(EventType.INVOICE_SETTLED) == 1
