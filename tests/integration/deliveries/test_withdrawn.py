"""An expiry that the shop has not heard of yet is withdrawn when the order turns out to be paid in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from lnpay.deliveries.send import CLAIM, _claim_next, _send, send_again, send_due
from lnpay.domain.errors import NotFound, ShopRefused
from lnpay.domain.model import Event, Invoice
from lnpay.domain.states import DeliveryState, EndpointForm, InvoiceState
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.invoices.sweep import (
    Sweep,
    expire_due,
    lapse_due,
    sweep,
)
from lnpay.repository.deliveries import Deliveries
from tests.databases import migrated_postgres
from tests.endpoint_shop import add_endpoint, open_shops
from tests.world import ALL_EVENTS, World

EXPIRED, SETTLED = "invoice.expired", "invoice.settled"


@pytest.fixture(params=["sqlite", "postgresql"])
def told_all(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[World]:
    """A world whose shop wants to hear of everything, over each engine."""
    with ExitStack() as stack:
        changes: dict[str, Any] = {"delivery_events": ALL_EVENTS}
        if request.param == "postgresql":
            changes["database_url"] = stack.enter_context(migrated_postgres(request.getfixturevalue("postgres_server")))
        yield make_world(**changes)


@pytest.fixture
def shop(make_world: Callable[..., World]) -> World:
    """The same over SQLite alone."""
    return make_world(delivery_events=ALL_EVENTS)


def expire_unseen(world: World) -> Invoice:
    """An invoice that was paid in time and expired here, because Strike did not show its payment."""
    invoice = world.sell()
    world.pay(invoice)
    world.wait(200)
    world.backend.strike.measure_time()
    blind = Sweep(
        world.backend.clock(), world.backend.strike.time.steady(), since=invoice.issue.opened_at - timedelta(1)
    )
    assert expire_due(world.backend.sweep_settlement, blind) == 1
    return invoice


def settle(world: World, invoice: Invoice) -> Outcome:
    return reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)


def states(world: World, invoice: Invoice) -> dict[str, str]:
    return {one.event_type: str(one.state) for one in world.deliveries(invoice)}


def told(world: World) -> list[str]:
    return [body["type"] for body in world.told()]


def test_one_that_waits_is_withdrawn_in_the_commit_that_settles(told_all: World) -> None:
    invoice = expire_unseen(told_all)

    assert settle(told_all, invoice) is Outcome.SETTLED

    assert states(told_all, invoice) == {EXPIRED: "withdrawn", SETTLED: "pending"}
    send_due(told_all.backend.outbox)
    told_all.wait(100_000)
    send_due(told_all.backend.outbox)
    assert told(told_all) == [SETTLED]


def test_one_that_the_shop_has_refused_so_far_is_withdrawn(shop: World) -> None:
    invoice = expire_unseen(shop)
    shop.simulator.shop.answer_with(500)
    send_due(shop.backend.outbox)

    settle(shop, invoice)

    shop.wait(100_000)
    send_due(shop.backend.outbox)
    assert told(shop) == [SETTLED]


def test_one_that_the_shop_has_taken_stays_told(shop: World) -> None:
    invoice = expire_unseen(shop)
    send_due(shop.backend.outbox)

    settle(shop, invoice)

    send_due(shop.backend.outbox)
    assert states(shop, invoice) == {EXPIRED: "delivered", SETTLED: "delivered"}
    assert told(shop) == [EXPIRED, SETTLED]


def test_an_invoice_that_is_settled_is_not_expired_afterwards(shop: World) -> None:
    invoice = shop.sell()
    shop.pay(invoice)
    shop.wait(200)
    found = sweep(shop.backend.sweep_settlement, lambda: 0)
    expire_due(shop.backend.sweep_settlement, found)

    assert states(shop, invoice) == {SETTLED: "pending"}


@pytest.mark.parametrize("is_taken", [True, False])
def test_an_expiry_that_is_being_sent_arrives_before_the_payment(told_all: World, is_taken: bool) -> None:
    """The payment is noticed while the shop is being told of the expiry, by whichever process."""
    world = told_all
    invoice = expire_unseen(world)

    def settles_meanwhile(event: Event) -> None:
        if event.type == EXPIRED:
            settle(world, invoice)
            send_due(world.neighbour(skew_seconds=0).outbox)
            if not is_taken:
                raise ShopRefused("the shop answered 500")
        world.post_to_shop(event)

    world.deliver = settles_meanwhile
    send_due(world.backend.outbox)
    assert states(world, invoice) == {EXPIRED: "delivered" if is_taken else "withdrawn", SETTLED: "pending"}

    world.wait(CLAIM.total_seconds())
    send_due(world.backend.outbox)
    world.wait(100_000)
    send_due(world.backend.outbox)
    assert told(world) == ([EXPIRED, SETTLED] if is_taken else [SETTLED])


def test_a_sender_that_was_killed_holds_the_payment_up_for_no_longer_than_its_claim(shop: World) -> None:
    invoice = expire_unseen(shop)
    with shop.backend.repository.transaction() as tx:
        (expiry,) = tx.deliveries.of_invoice(invoice.id)
        assert tx.deliveries.claim(expiry, until=shop.backend.clock() + CLAIM)
    shop.restart()
    settle(shop, invoice)

    shop.wait(CLAIM.total_seconds())
    send_due(shop.backend.outbox)

    assert told(shop) == [SETTLED]


def test_one_that_another_process_is_about_to_claim_cannot_be_claimed_any_more(told_all: World) -> None:
    invoice = expire_unseen(told_all)
    with told_all.backend.repository.reading() as tx:
        (expiry,) = tx.deliveries.due(told_all.backend.clock(), 8)
    settle(told_all, invoice)

    with told_all.backend.repository.transaction() as tx:
        assert not tx.deliveries.claim(expiry, until=told_all.backend.clock() + CLAIM)
        assert not tx.deliveries.put_off(expiry, told_all.backend.clock(), "late")
        assert not tx.deliveries.abandon(expiry, "late")
    assert states(told_all, invoice)[EXPIRED] == "withdrawn"


@pytest.mark.parametrize("verb", ["withdraw", "add"])
def test_a_process_killed_before_the_commit_has_done_nothing(
    shop: World, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Both or neither: the payment is settled and the expiry withdrawn, or it is as it was."""
    invoice = expire_unseen(shop)

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Deliveries, verb, killed)
        with pytest.raises(SystemExit):
            settle(shop, invoice)
    shop.restart()

    assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.EXPIRED
    assert states(shop, invoice) == {EXPIRED: "pending"}
    assert settle(shop, invoice) is Outcome.SETTLED
    assert states(shop, invoice) == {EXPIRED: "withdrawn", SETTLED: "pending"}


def test_a_second_look_after_the_commit_changes_nothing(shop: World) -> None:
    invoice = expire_unseen(shop)
    settle(shop, invoice)
    before = shop.deliveries(invoice)

    shop.restart()

    assert settle(shop, invoice) is Outcome.ALREADY
    assert shop.deliveries(invoice) == before


def test_a_late_payment_withdraws_nothing(shop: World) -> None:
    """The order did expire; the payment is refunded."""
    invoice = shop.sell(ln_address="alice@example.com")
    shop.wait(200)
    expire_due(shop.backend.sweep_settlement, sweep(shop.backend.sweep_settlement, lambda: 0))
    shop.pay(invoice)

    assert settle(shop, invoice) is Outcome.PAID_LATE

    assert states(shop, invoice) == {EXPIRED: "pending", "invoice.paid_late": "pending"}


def test_a_lapsed_invoice_that_was_paid_in_time_withdraws_its_expiry_too(shop: World) -> None:
    invoice = expire_unseen(shop)
    shop.wait(10_000)
    shop.backend.strike.measure_time()
    blind = Sweep(
        shop.backend.clock(),
        shop.backend.strike.time.steady(),
        since=invoice.issue.opened_at - timedelta(1),
        is_pending_known=True,
    )
    assert lapse_due(shop.backend.sweep_settlement, blind) == 1

    assert settle(shop, invoice) is Outcome.SETTLED

    assert states(shop, invoice)[EXPIRED] == "withdrawn"


def test_redelivering_a_sale_repeats_no_expiry(shop: World) -> None:
    """Neither one that was withdrawn nor one that the shop has taken before the payment was noticed."""
    withdrawn, taken = expire_unseen(shop), None
    settle(shop, withdrawn)
    send_due(shop.backend.outbox)
    taken = expire_unseen(shop)
    send_due(shop.backend.outbox)
    settle(shop, taken)
    send_due(shop.backend.outbox)

    again = [
        one.event_type
        for invoice in (withdrawn, taken)
        for one in send_again(shop.backend.repository, invoice.strike_invoice_id, shop.backend.clock())
    ]

    assert again == [SETTLED, SETTLED]
    assert states(shop, withdrawn)[EXPIRED] == DeliveryState.WITHDRAWN


def test_a_sale_of_which_only_the_expiry_was_owed_has_nothing_to_redeliver(make_world: Callable[..., World]) -> None:
    world = make_world(delivery_events=frozenset({EXPIRED}))
    invoice = expire_unseen(world)
    settle(world, invoice)

    assert states(world, invoice) == {EXPIRED: "withdrawn"}
    with pytest.raises(NotFound):
        send_again(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())


class TestASenderThatStoodStill:
    """It claimed a message, was stopped, and goes on when the message is not true or not its own any more."""

    @pytest.mark.parametrize("to_endpoint", [False, True], ids=["hook", "endpoint"])
    def test_it_does_not_send_an_expiry_of_an_order_that_is_settled(
        self, make_world: Callable[..., World], to_endpoint: bool
    ) -> None:
        world = make_world(delivery_events=frozenset() if to_endpoint else ALL_EVENTS)
        if to_endpoint:
            open_shops(world)
            add_endpoint(world, form=EndpointForm.STANDARD)
        sent: list[bytes] = []

        def take(url: str, content: bytes, headers: Mapping[str, str]) -> int:
            sent.append(content)
            return 200

        world.endpoint = take
        invoice = expire_unseen(world)
        claimed = _claim_next(world.backend.outbox, None)
        assert claimed is not None
        assert settle(world, invoice) is Outcome.SETTLED

        assert _send(world.backend.outbox, claimed) == "taken"

        assert (world.told(), sent) == ([], [])

    def test_it_does_not_send_what_another_process_has_claimed(self, shop: World) -> None:
        expire_unseen(shop)
        claimed = _claim_next(shop.backend.outbox, None)
        assert claimed is not None
        shop.wait(CLAIM.total_seconds() + 1)

        assert send_due(shop.backend.outbox)["delivered"] == 1
        assert _send(shop.backend.outbox, claimed) == "taken"

        assert len(shop.told()) == 1
