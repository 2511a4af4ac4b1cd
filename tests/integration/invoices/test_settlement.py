"""Settling: the payment's own time decides, and what it owes is owed exactly once."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lnpay.domain.model import Invoice
from lnpay.domain.states import DeliveryState, InvoiceState, RefundState
from lnpay.invoices.settle import Outcome, reconcile_invoice, settle
from lnpay.sandbox.config import SimulatorConfig
from lnpay.strike.invoices import InvoiceStatus, StrikeInvoice
from tests.world import ALL_EVENTS, World


def reconcile(world: World, invoice: Invoice) -> Outcome:
    return reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)


def seen(invoice: Invoice, status: InvoiceStatus, **changes: Any) -> StrikeInvoice:
    """An answer of the provider about `invoice`, paid a second after it was made unless `changes` say otherwise."""
    opened_at = invoice.issue.opened_at
    as_usual = StrikeInvoice(
        invoice.strike_invoice_id,
        status,
        invoice.amount_sats,
        opened_at,
        opened_at + timedelta(seconds=1),
        invoice.amount_sats,
        {},
    )
    return replace(as_usual, **changes)


def owed(world: World, invoice: Invoice) -> list[str]:
    return [delivery.event_type for delivery in world.deliveries(invoice)]


def lapse(world: World, invoice: Invoice) -> None:
    with world.backend.repository.transaction() as tx:
        tx.invoices.move(invoice.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)
        tx.invoices.move(invoice.id, InvoiceState.EXPIRED, InvoiceState.LAPSED)


class TestWhenItWasPaid:
    def test_paid_in_time_is_settled(self, world: World) -> None:
        invoice = world.sell()
        world.wait(60)
        world.pay(invoice)

        assert reconcile(world, invoice) is Outcome.SETTLED
        row = world.invoice(invoice.strike_invoice_id)
        assert (row.state, row.received_sats) == (InvoiceState.SETTLED, invoice.amount_sats)
        assert row.paid_at == row.settled_at == world.backend.clock()

    def test_paid_in_time_and_noticed_late_is_settled(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice, late_seconds=119)
        paid_at = world.backend.clock()
        world.wait(86_400)

        assert reconcile(world, invoice) is Outcome.SETTLED
        row = world.invoice(invoice.strike_invoice_id)
        assert (row.paid_at, row.settled_at) == (paid_at, world.backend.clock())

    def test_paid_in_time_is_settled_even_after_it_was_called_expired(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice)
        with world.backend.repository.transaction() as tx:
            tx.invoices.move(invoice.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)

        assert reconcile(world, invoice) is Outcome.SETTLED
        assert owed(world, invoice) == ["invoice.settled"]

    def test_paid_late_is_owed_back(self, world: World) -> None:
        invoice = world.sell(ln_address="alice@example.com")
        world.pay(invoice, late_seconds=121)

        assert reconcile(world, invoice) is Outcome.PAID_LATE
        row, refund = world.invoice(invoice.strike_invoice_id), world.refund(invoice)
        assert (row.state, row.settled_at) == (InvoiceState.PAID_LATE, None)
        assert refund is not None
        assert (refund.state, refund.amount_sats) == (RefundState.REQUESTED, invoice.amount_sats)
        assert refund.address == "alice@example.com"

    def test_paid_late_by_the_providers_time_is_late_although_our_clock_says_in_time(self, world: World) -> None:
        invoice = world.sell()
        paid_at = invoice.expires_at + timedelta(milliseconds=1)

        outcome = settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID, paid_at=paid_at))

        assert world.backend.clock() < invoice.expires_at
        assert outcome is Outcome.PAID_LATE

    @pytest.mark.parametrize(
        ("microseconds", "outcome"), [(-1, Outcome.SETTLED), (0, Outcome.SETTLED), (1, Outcome.PAID_LATE)]
    )
    def test_the_last_moment_still_counts(self, world: World, microseconds: int, outcome: Outcome) -> None:
        invoice = world.sell()
        paid_at = invoice.expires_at + timedelta(microseconds=microseconds)

        assert settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID, paid_at=paid_at)) is outcome

    def test_a_payment_that_was_long_on_its_way_counts_from_when_it_came(self, world: World) -> None:
        """Made in time, final only after the time to pay: what counts is when it was made."""
        invoice = world.sell()
        world.wait(110)
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=60)
        world.wait(60)

        assert reconcile(world, invoice) is Outcome.SETTLED

    def test_the_time_may_be_told_in_any_zone(self, world: World) -> None:
        invoice = world.sell()
        moment = invoice.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        world.pay(invoice)
        path = f"/v1/invoices/{invoice.strike_invoice_id}"
        elsewhere = datetime.fromisoformat(moment + "+00:00") + timedelta(hours=5)
        told = elsewhere.strftime("%Y-%m-%dT%H:%M:%S.1234567+05:00")
        world.fault("GET", path, "field_changed", field="transactions.0.created", value=told)

        assert reconcile(world, invoice) is Outcome.PAID_LATE


class TestWithoutTransactions:
    @pytest.mark.parametrize("transactions", ["empty", "missing"])
    def test_noticed_in_time_and_without_a_time_it_is_dated_now(
        self, make_world: Callable[..., World], transactions: str
    ) -> None:
        world = make_world(config=SimulatorConfig(transactions=transactions))
        invoice = world.sell()
        world.pay(invoice)
        world.wait(30)

        assert reconcile(world, invoice) is Outcome.SETTLED
        row = world.invoice(invoice.strike_invoice_id)
        assert (row.paid_at, row.received_sats) == (world.backend.clock(), invoice.amount_sats)

    def test_noticed_late_and_without_a_time_it_counts_as_in_time(
        self, make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
    ) -> None:
        world = make_world(config=SimulatorConfig(transactions="missing"))
        invoice = world.sell()
        world.pay(invoice)
        world.wait(3_000)

        assert reconcile(world, invoice) is Outcome.SETTLED
        assert world.invoice(invoice.strike_invoice_id).paid_at == invoice.expires_at
        assert "paid invoice has no payment time" in caplog.text

    def test_a_transaction_without_created_counts_when_it_was_completed(self, make_world: Callable[..., World]) -> None:
        world = make_world(config=SimulatorConfig(transaction_fields_missing=["created"]))
        invoice = world.sell()
        world.pay(invoice, late_seconds=200)

        assert reconcile(world, invoice) is Outcome.PAID_LATE

    def test_an_unknown_amount_counts_as_what_was_asked(self, world: World) -> None:
        invoice = world.sell()

        settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID, received_sats=None))

        assert world.invoice(invoice.strike_invoice_id).received_sats == invoice.amount_sats

    def test_what_was_received_is_what_is_owed_back(self, world: World) -> None:
        invoice = world.sell(ln_address="alice@example.com")
        late = invoice.expires_at + timedelta(seconds=1)

        settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID, paid_at=late, received_sats=4_321))

        refund = world.refund(invoice)
        assert refund is not None
        assert refund.amount_sats == 4_321


class TestNotPaid:
    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (InvoiceStatus.UNPAID, Outcome.NOT_PAID),
            (InvoiceStatus.PENDING, Outcome.NOT_FINAL),
            (InvoiceStatus.REVERSED, Outcome.CANCELLED),
        ],
    )
    def test_any_status_but_paid_moves_nothing(self, world: World, status: InvoiceStatus, outcome: Outcome) -> None:
        invoice = world.sell()

        assert settle(world.backend.settlement, seen(invoice, status)) is outcome
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        assert owed(world, invoice) == []

    def test_every_state_of_the_provider_has_a_meaning(self, world: World) -> None:
        invoice = world.sell()

        for status in InvoiceStatus:
            assert settle(world.backend.settlement, seen(invoice, status)) in Outcome

    def test_pending_money_is_counted_when_it_is_final(self, world: World) -> None:
        invoice = world.sell()
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=30)

        assert reconcile(world, invoice) is Outcome.NOT_FINAL
        world.wait(31)
        assert reconcile(world, invoice) is Outcome.SETTLED

    def test_a_pending_payment_that_fails_leaves_the_invoice_open(self, world: World) -> None:
        invoice = world.sell()
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=30, reverts=True)
        assert reconcile(world, invoice) is Outcome.NOT_FINAL
        world.wait(31)

        assert reconcile(world, invoice) is Outcome.NOT_PAID
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID

    def test_an_invoice_that_is_not_ours_is_left_alone(self, world: World) -> None:
        invoice = world.sell()
        strange = seen(invoice, InvoiceStatus.PAID, invoice_id="11111111-2222-4333-8444-555555555555")

        assert settle(world.backend.settlement, strange) is Outcome.ALREADY


class TestMoneyThatWasSeen:
    """It is for the customer's eyes: no state depends on it."""

    def test_the_first_sight_of_it_is_remembered(self, world: World) -> None:
        invoice = world.sell()
        first = world.backend.clock()

        settle(world.backend.settlement, seen(invoice, InvoiceStatus.PENDING))
        world.wait(3)
        settle(world.backend.settlement, seen(invoice, InvoiceStatus.PENDING))

        assert world.invoice(invoice.strike_invoice_id).seen_at == first

    @pytest.mark.parametrize("status", [InvoiceStatus.UNPAID, InvoiceStatus.CANCELLED, InvoiceStatus.REVERSED])
    def test_it_is_forgotten_when_it_fails(self, world: World, status: InvoiceStatus) -> None:
        invoice = world.sell()
        settle(world.backend.settlement, seen(invoice, InvoiceStatus.PENDING))

        settle(world.backend.settlement, seen(invoice, status))

        assert world.invoice(invoice.strike_invoice_id).seen_at is None

    def test_an_outdated_report_of_it_changes_no_paid_invoice(self, world: World) -> None:
        invoice = world.sell()
        settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID))

        assert settle(world.backend.settlement, seen(invoice, InvoiceStatus.PENDING)) is Outcome.NOT_FINAL
        assert world.invoice(invoice.strike_invoice_id).seen_at is None

    def test_of_a_stranger_it_is_ignored(self, world: World) -> None:
        invoice = world.sell()
        strange = seen(invoice, InvoiceStatus.PENDING, invoice_id="11111111-2222-4333-8444-555555555555")

        assert settle(world.backend.settlement, strange) is Outcome.NOT_FINAL


class TestWhatIsOwed:
    def test_settled_owes_one_message_in_the_shops_words(self, world: World) -> None:
        invoice = world.sell(correlation_id="order-7", metadata={"table": "4"})
        world.pay(invoice)

        reconcile(world, invoice)

        (delivery,) = world.deliveries(invoice)
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 0)
        assert json.loads(delivery.body) == {
            "status": "success",
            "message": "Payment processed successfully!",
            "invoice": invoice.issue.bolt11,
            "type": "invoice.settled",
            "timestamp": world.backend.clock().isoformat(),
            "data": {
                "invoice_id": invoice.strike_invoice_id,
                "correlation_id": "order-7",
                "order_id": "order-7",
                "amount_fiat": "12.34",
                "currency": "usd",
                "amount_sats": invoice.amount_sats,
                "settled_at": world.backend.clock().isoformat(),
                "metadata": {"table": "4"},
            },
        }

    def test_paid_late_owes_the_shop_nothing_unless_it_asks(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice, late_seconds=200)

        reconcile(world, invoice)

        assert owed(world, invoice) == []

    @pytest.mark.parametrize(
        ("address", "events", "state"),
        [
            ("alice@example.com", ["invoice.paid_late"], RefundState.REQUESTED),
            (None, ["refund.needs_address", "invoice.paid_late"], RefundState.NEEDS_ADDRESS),
            ("<refund address>", ["refund.needs_address", "invoice.paid_late"], RefundState.NEEDS_ADDRESS),
        ],
    )
    def test_paid_late_tells_the_shop_that_asks(
        self, make_world: Callable[..., World], address: str | None, events: list[str], state: RefundState
    ) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = world.sell(ln_address=address)
        world.pay(invoice, late_seconds=200)

        reconcile(world, invoice)

        refund = world.refund(invoice)
        assert sorted(owed(world, invoice)) == sorted(events)
        assert refund is not None
        assert refund.state is state

    def test_no_other_message_says_success(self, make_world: Callable[..., World]) -> None:
        """A first-version shop looks at `status` alone, and must not ship what was paid too late."""
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = world.sell()
        world.pay(invoice, late_seconds=200)

        reconcile(world, invoice)

        words = {json.loads(delivery.body)["status"] for delivery in world.deliveries(invoice)}
        assert words == {"paid_late", "needs_address"}


class TestRepeating:
    def test_a_repeat_owes_nothing_more(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice)

        outcomes = [reconcile(world, invoice) for _ in range(3)]

        assert outcomes == [Outcome.SETTLED, Outcome.ALREADY, Outcome.ALREADY]
        assert owed(world, invoice) == ["invoice.settled"]

    def test_a_late_payment_seen_again_is_owed_back_once(self, world: World) -> None:
        invoice = world.sell(ln_address="alice@example.com")
        world.pay(invoice, late_seconds=200)
        reconcile(world, invoice)
        first = world.refund(invoice)

        assert reconcile(world, invoice) is Outcome.ALREADY
        assert world.refund(invoice) == first

    def test_what_is_settled_is_not_undone_by_a_later_reversal(self, world: World) -> None:
        invoice = world.sell()
        settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID))

        settle(world.backend.settlement, seen(invoice, InvoiceStatus.REVERSED))
        settle(world.backend.settlement, seen(invoice, InvoiceStatus.UNPAID))

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED

    @pytest.mark.parametrize("late_seconds", [0, 300])
    def test_a_lapsed_invoice_that_was_paid_counts_like_any_other(
        self, world: World, caplog: pytest.LogCaptureFixture, late_seconds: float
    ) -> None:
        invoice = world.sell()
        lapse(world, invoice)
        paid_at = invoice.issue.opened_at + timedelta(seconds=late_seconds)

        outcome = settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID, paid_at=paid_at))

        after = world.invoice(invoice.strike_invoice_id)
        assert outcome is (Outcome.PAID_LATE if late_seconds else Outcome.SETTLED)
        assert (after.state, after.paid_at) == (InvoiceState(outcome.value), paid_at)
        assert (world.refund(invoice) is not None, len(owed(world, invoice))) == (
            (True, 0) if late_seconds else (False, 1)
        )
        assert any(invoice.strike_invoice_id in one.getMessage() for one in caplog.records if "lapsed" in one.message)

    def test_the_second_of_two_concurrent_settlements_owes_nothing(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On PostgreSQL another process may settle after our look: the row count of the move is what decides."""
        invoice = world.sell()
        monkeypatch.setattr("lnpay.repository.invoices.Invoices.mark_paid", lambda *_, **__: False)

        assert settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID)) is Outcome.ALREADY
        assert owed(world, invoice) == []

    def test_a_crash_before_the_commit_leaves_all_of_it_to_the_next(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        invoice = world.sell()
        with monkeypatch.context() as patched:
            patched.setattr("lnpay.invoices.settle.owe_settled", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID))
        assert world.invoice(invoice.strike_invoice_id) == invoice

        assert settle(world.backend.settlement, seen(invoice, InvoiceStatus.PAID)) is Outcome.SETTLED

    @pytest.mark.parametrize(("seconds", "wanted"), [(-1, Outcome.SETTLED), (300, Outcome.PAID_LATE)])
    def test_many_at_once_owe_it_once(self, make_world: Callable[..., World], seconds: int, wanted: Outcome) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = world.sell(ln_address="alice@example.com")
        paid = seen(invoice, InvoiceStatus.PAID, paid_at=invoice.expires_at + timedelta(seconds=seconds))

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda _: settle(world.backend.settlement, paid), range(16)))

        assert sorted(outcomes) == sorted([wanted] + [Outcome.ALREADY] * 15)
        assert len(owed(world, invoice)) == 1
        assert (world.refund(invoice) is not None) == (wanted is Outcome.PAID_LATE)

    def test_two_processes_at_once_owe_it_once(self, world: World) -> None:
        invoice = world.sell()
        other = World(world.database_url, world.simulator)
        paid = seen(invoice, InvoiceStatus.PAID)

        with ThreadPoolExecutor(2) as pool:
            ledgers = [world.backend.settlement, other.backend.settlement] * 4
            outcomes = list(pool.map(lambda ledger: settle(ledger, paid), ledgers))

        assert outcomes.count(Outcome.SETTLED) == 1
        assert owed(world, invoice) == ["invoice.settled"]
        other.close()
