"""An invoice that is called off at Strike is cancelled here too, and a payment that comes all the same counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.invoices.settle import Outcome, call_off, reconcile_invoice
from lnpay.invoices.sweep import LAPSED_FOR, sweep
from lnpay.runtime.worker_passes import expired_pass, main_pass
from lnpay.sandbox.config import SimulatorConfig
from tests.databases import migrated_postgres
from tests.world import ALL_EVENTS, World

LIST = "/v1/invoices"
EXPIRED, SETTLED = "invoice.expired", "invoice.settled"


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[World]:
    """A world whose shop hears of everything and whose cancelled invoices stay payable, over each engine."""
    with ExitStack() as stack:
        changes: dict[str, Any] = {"delivery_events": ALL_EVENTS}
        if request.param == "postgresql":
            changes["database_url"] = stack.enter_context(migrated_postgres(request.getfixturevalue("postgres_server")))
        yield make_world(config=SimulatorConfig(is_payable_after_cancel=True), **changes)


@pytest.fixture
def shop(make_world: Callable[..., World]) -> World:
    """The same over SQLite alone."""
    return make_world(config=SimulatorConfig(is_payable_after_cancel=True), delivery_events=ALL_EVENTS)


def cancel(world: World, invoice: Invoice) -> None:
    """The invoice is cancelled at Strike."""
    world.simulator.invoices.cancel(world.simulator.invoices.by_id[invoice.strike_invoice_id])


def look(world: World, invoice: Invoice) -> Outcome:
    return reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)


def cancelled(world: World, **fields: Any) -> Invoice:
    """An invoice that was called off, and of which we know it."""
    invoice = world.sell(**fields)
    cancel(world, invoice)
    assert look(world, invoice) is Outcome.CANCELLED
    return world.invoice(invoice.strike_invoice_id)


def state(world: World, invoice: Invoice) -> InvoiceState:
    return world.invoice(invoice.strike_invoice_id).state


def messages(world: World, invoice: Invoice) -> dict[str, str]:
    return {one.event_type: str(one.state) for one in world.deliveries(invoice)}


def status(world: World, invoice: Invoice) -> dict[str, Any]:
    answer: dict[str, Any] = world.client.get(f"/checkout/{invoice.token}/status").get_json()
    return answer


class TestBecomingCancelled:
    def test_the_webhook_is_enough(self, world: World) -> None:
        world.subscribe()
        invoice = world.sell()
        cancel(world, invoice)

        assert set(world.pump()) == {200}
        assert state(world, invoice) is InvoiceState.CANCELLED

    def test_a_worker_finds_it_without_the_webhook(self, world: World) -> None:
        invoice, other = world.sell(), world.sell()
        cancel(world, invoice)
        world.wait(60)

        main_pass(world.backend)

        assert (state(world, invoice), state(world, other)) == (InvoiceState.CANCELLED, InvoiceState.UNPAID)
        assert messages(world, invoice) == {EXPIRED: "delivered"}

    def test_one_that_has_expired_before_is_cancelled_and_the_shop_hears_of_it_once(self, world: World) -> None:
        invoice = world.sell()
        world.wait(200)
        main_pass(world.backend)
        assert state(world, invoice) is InvoiceState.EXPIRED
        cancel(world, invoice)

        look(world, invoice)
        main_pass(world.backend)

        assert state(world, invoice) is InvoiceState.CANCELLED
        assert [body["type"] for body in world.told()] == [EXPIRED]

    def test_one_that_has_lapsed_stays_so(self, shop: World) -> None:
        invoice = shop.sell()
        shop.wait(200)
        main_pass(shop.backend)
        shop.wait(10_000)
        expired_pass(shop.backend)
        assert state(shop, invoice) is InvoiceState.LAPSED
        cancel(shop, invoice)

        assert look(shop, invoice) is Outcome.CANCELLED
        assert state(shop, invoice) is InvoiceState.LAPSED

    def test_it_neither_expires_nor_lapses(self, shop: World) -> None:
        invoice = cancelled(shop)
        for seconds in (200, 20_000):
            shop.wait(seconds)
            expired_pass(shop.backend)

        assert state(shop, invoice) is InvoiceState.CANCELLED

    def test_a_stranger_s_is_ignored(self, shop: World) -> None:
        strange = shop.simulator.invoices.create(
            shop.simulator.invoices.by_id[shop.sell().strike_invoice_id].amount, None, None
        )
        shop.simulator.invoices.cancel(strange)

        assert reconcile_invoice(shop.backend.settlement, strange.invoice_id) is Outcome.CANCELLED

    def test_one_that_has_moved_meanwhile_is_left_alone(self, shop: World) -> None:
        invoice = shop.sell()
        shop.pay(invoice)
        look(shop, invoice)

        with shop.backend.repository.transaction() as tx:
            assert not call_off(tx, ALL_EVENTS, invoice, shop.backend.clock())
        assert state(shop, invoice) is InvoiceState.SETTLED
        assert EXPIRED not in messages(shop, invoice)

    def test_one_that_is_paid_while_its_cancelling_is_noted_is_left_alone(
        self, shop: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        invoice = shop.sell()
        cancel(shop, invoice)
        monkeypatch.setattr("lnpay.repository.invoices.Invoices.cancel", lambda *_: False)

        assert look(shop, invoice) is Outcome.CANCELLED
        assert messages(shop, invoice) == {}

    @pytest.mark.parametrize("fault", [{"kind": "html403"}, {"kind": "unreachable"}])
    def test_a_list_that_cannot_be_had_keeps_no_payment(self, shop: World, fault: dict[str, Any]) -> None:
        paid, other = shop.sell(), shop.sell()
        shop.pay(paid)
        cancel(shop, other)
        shop.wait(60)
        shop.fault("GET", LIST, skip=1, times=None, **fault)

        found = sweep(shop.backend.sweep_settlement, shop.backend.sweep_budget.remaining, is_deep=True)

        assert (found.settled, found.stopped_by, state(shop, paid)) == (1, None, InvoiceState.SETTLED)
        assert state(shop, other) is InvoiceState.UNPAID


class TestAPaymentAllTheSame:
    @pytest.mark.parametrize(("late_seconds", "new"), [(0, InvoiceState.SETTLED), (300, InvoiceState.PAID_LATE)])
    def test_counts(self, world: World, late_seconds: int, new: InvoiceState) -> None:
        invoice = cancelled(world)
        world.pay(invoice, late_seconds=late_seconds)

        assert look(world, invoice) is Outcome(new.value)

        assert state(world, invoice) is new
        assert (world.refund(invoice) is not None) == (new is InvoiceState.PAID_LATE)
        if new is InvoiceState.SETTLED:
            assert messages(world, invoice) == {EXPIRED: "withdrawn", SETTLED: "pending"}

    def test_is_found_without_its_webhook(self, world: World) -> None:
        invoice = cancelled(world)
        world.pay(invoice)
        world.wait(LAPSED_FOR.total_seconds())

        expired_pass(world.backend)

        assert state(world, invoice) is InvoiceState.SETTLED

    def test_is_found_when_no_worker_has_run_for_days(self, world: World) -> None:
        expired_pass(world.backend)
        invoice = cancelled(world)
        world.pay(invoice)
        world.wait(3 * 86_400)

        expired_pass(world.backend)

        assert state(world, invoice) is InvoiceState.SETTLED

    def test_that_is_final_hours_later_is_found_without_its_webhook(self, world: World) -> None:
        invoice = cancelled(world)
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=8 * 3600)
        for _ in range(9):
            world.wait(3700)
            expired_pass(world.backend)

        assert state(world, invoice) is InvoiceState.SETTLED

    @pytest.mark.parametrize(
        ("path", "fault"),
        [
            (LIST, {"kind": "unreachable", "skip": 1}),
            (LIST, {"kind": "html403", "skip": 1, "times": 2}),
            (f"{LIST}/*", {"kind": "error"}),
            (f"{LIST}/*", {"kind": "garbage"}),
        ],
    )
    def test_that_is_final_hours_later_is_found_though_strike_fails_just_then(
        self, world: World, path: str, fault: dict[str, Any]
    ) -> None:
        invoice = cancelled(world)
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=8 * 3600)
        for _ in range(7):
            world.wait(3700)
            expired_pass(world.backend)
        world.wait(3700)
        world.fault("GET", path, **fault)
        for _ in range(3):
            expired_pass(world.backend)
            world.wait(3700)

        assert state(world, invoice) is InvoiceState.SETTLED

    def test_is_found_though_there_is_no_list_and_a_pass_reads_few_invoices(self, world: World) -> None:
        expired_pass(world.backend)
        invoices = [cancelled(world) for _ in range(9)]
        for one in invoices:
            world.pay(one)
        world.fault("GET", LIST, "html403", times=None)
        for _ in range(9):
            world.wait(3700)
            sweep(world.backend.sweep_settlement, lambda: 10, is_deep=True)

        assert {state(world, one) for one in invoices} == {InvoiceState.SETTLED}

    def test_that_fails_hours_later_is_not_shown_any_more(self, world: World) -> None:
        invoice = cancelled(world)
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=8 * 3600, reverts=True)
        seen = []
        for _ in range(10):
            world.wait(3700)
            expired_pass(world.backend)
            with world.backend.repository.reading() as tx:
                found = tx.invoices.find(invoice.id)
            assert found is not None
            seen.append(found.seen_at is not None)

        assert (seen[0], seen[-1]) == (True, False)

    def test_that_is_not_final_yet_is_shown_and_waited_for(self, world: World) -> None:
        invoice = cancelled(world, correlation_id="order-1")
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=30)
        look(world, invoice)

        assert status(world, invoice)["state"] == "seen"
        again = world.ask(correlation_id="order-1")
        assert (again.status_code, again.get_json()["code"]) == (409, "payment_pending")


class TestWhatIsSaid:
    def test_the_page_and_its_status_say_so(self, world: World) -> None:
        invoice = cancelled(world, retry_url="https://shop.example/again")

        page = world.client.get(f"/checkout/{invoice.token}").get_data(as_text=True)

        assert status(world, invoice)["state"] == "cancelled"
        assert "This payment was cancelled" in page
        assert "https://shop.example/again" in page
        assert invoice.issue.bolt11.lower() not in page.lower()

    def test_the_page_says_so_in_the_customer_s_language(self, shop: World) -> None:
        invoice = cancelled(shop)

        page = shop.client.get(f"/checkout/{invoice.token}", headers={"Accept-Language": "de"})

        assert "Diese Zahlung wurde storniert" in page.get_data(as_text=True)

    def test_the_shop_s_questions_are_answered_so(self, world: World) -> None:
        invoice = cancelled(world, correlation_id="order-1")

        for question in (f"/invoices/{invoice.strike_invoice_id}", "/invoices?correlation_id=order-1"):
            assert world.client.get(question).get_json()["state"] == "cancelled"

    def test_a_pending_payment_that_fails_is_not_shown_any_more(self, shop: World) -> None:
        invoice = shop.sell()
        with shop.backend.repository.transaction() as tx:
            tx.invoices.mark_seen(invoice.id, shop.backend.clock())
        cancel(shop, invoice)
        shop.wait(60)

        main_pass(shop.backend)

        assert status(shop, invoice)["state"] == "cancelled"


class TestTheSameOrder:
    def test_gets_a_new_invoice_and_both_are_its_attempts(self, world: World) -> None:
        first = cancelled(world, correlation_id="order-1")

        second = world.sell(correlation_id="order-1")

        assert second.strike_invoice_id != first.strike_invoice_id
        assert world.sell(correlation_id="order-1") == second
        by_name = world.client.get("/invoices?correlation_id=order-1").get_json()
        assert (by_name["invoice_id"], by_name["state"]) == (second.strike_invoice_id, "unpaid")
        attempts = world.client.get("/invoices?order_id=order-1").get_json()["invoices"]
        assert [(one["invoice_id"], one["correlation_id"], one["state"]) for one in attempts] == [
            (second.strike_invoice_id, "order-1", "unpaid"),
            (first.strike_invoice_id, "order-1", "cancelled"),
        ]
        assert status(world, first)["state"] == "cancelled"

    def test_may_ask_for_another_amount_and_be_cancelled_again(self, world: World) -> None:
        sold = [cancelled(world, correlation_id="order-1", amount_fiat=amount) for amount in ("1.00", "2.00", "3.00")]

        assert len({one.strike_invoice_id for one in sold}) == 3
        assert {world.invoice(one.strike_invoice_id).correlation_id for one in sold} == {"order-1"}

    def test_is_not_sold_again_when_the_cancelled_invoice_was_paid(self, world: World) -> None:
        first = cancelled(world, correlation_id="order-1")
        world.sell(correlation_id="order-1")
        world.pay(first)
        look(world, first)

        again = world.ask(correlation_id="order-1")

        assert (again.status_code, again.get_json()["code"]) == (409, "already_paid")
        main_pass(world.backend)
        (told,) = [body["data"] for body in world.told() if body["type"] == SETTLED]
        assert (told["correlation_id"], told["order_id"]) == ("order-1", "order-1")

    def test_keeps_the_order_that_its_request_named(self, world: World) -> None:
        first = cancelled(world, correlation_id="attempt-1", order_id="order-1")

        second = world.sell(correlation_id="attempt-1", order_id="order-1")

        attempts = world.client.get("/invoices?order_id=order-1").get_json()["invoices"]
        assert [one["invoice_id"] for one in attempts] == [second.strike_invoice_id, first.strike_invoice_id]

    def test_releases_no_invoice_that_was_paid_meanwhile(self, world: World) -> None:
        stale = cancelled(world, correlation_id="order-1")
        world.pay(stale)
        look(world, stale)

        with world.backend.repository.transaction() as tx:
            assert not tx.invoices.release_correlation_id(stale)
        assert world.client.get("/invoices?correlation_id=order-1").get_json()["state"] == "settled"
