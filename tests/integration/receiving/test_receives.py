"""A receive request is paid: in time or late, in parts, twice, by a Strike user, and no money is lost."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from lnpay.domain.errors import Conflict, StrikeUnavailable
from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice, Refund
from lnpay.domain.receives import DUST_SATS, Receive, ReceiveWith
from lnpay.domain.states import Accepter, InvoiceState, LatePayments, RefundKind, RefundState
from lnpay.invoices import cancel
from lnpay.invoices.late import accept_late_payment
from lnpay.invoices.receives import reconcile_request
from lnpay.invoices.settle import Outcome
from lnpay.invoices.webhook_invoice import MANY_PAYMENTS, receive_event
from lnpay.repository import tables
from lnpay.runtime.worker_passes import expired_pass, main_pass
from lnpay.sandbox.config import SimulatorConfig
from lnpay.strike.receive_requests import RECEIVE_COMPLETED
from tests.integration.receiving.conftest import Open
from tests.world import ALL_EVENTS, World

ADDRESS = "customer@wallet.example"
PRICE = 19_207
"""What an order of the tests costs, in sats."""


def pay(world: World, invoice: Invoice, sats: int | None = None, **how: Any) -> None:
    """Pay an invoice's payment request."""
    world.simulator.pay_invoice(invoice.issue.bolt11, received_sats=sats, **how)


def receives_of(world: World, invoice: Invoice) -> list[Receive]:
    with world.backend.repository.reading() as tx:
        return tx.receives.of(invoice.id)


def refunds_of(world: World, invoice: Invoice) -> list[Refund]:
    with world.backend.repository.reading() as tx:
        return tx.refund_requests.of_invoice(invoice.id)


def events_of(world: World, invoice: Invoice) -> list[str]:
    return [one.event_type for one in world.deliveries(invoice) if one.state != "withdrawn"]


class TestInTime:
    @pytest.mark.parametrize("is_strike_user", [False, True])
    def test_a_payment_settles_by_the_poller_alone(self, shop: World, is_strike_user: bool) -> None:
        invoice = shop.sell()
        pay(shop, invoice, is_strike_user=is_strike_user)

        main_pass(shop.backend)

        settled = shop.invoice(invoice.strike_invoice_id)
        (receive,) = receives_of(shop, invoice)
        assert (settled.state, settled.received_sats) == (InvoiceState.SETTLED, invoice.amount_sats)
        assert (receive.kind, receive.owed_sats) == ("P2P" if is_strike_user else "LIGHTNING", 0)
        assert events_of(shop, invoice) == [EventType.INVOICE_SETTLED]

    @pytest.mark.parametrize("has_id", [True, False])
    def test_a_payment_settles_by_the_webhook_alone(self, shop: World, has_id: bool) -> None:
        shop.simulator.config.has_receive_id_in_events = has_id
        shop.subscribe()
        invoice = shop.sell()
        pay(shop, invoice)

        assert 200 in shop.pump()

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED

    def test_a_webhook_that_comes_again_asks_strike_nothing(self, shop: World) -> None:
        shop.subscribe()
        shop.fault("*", "receive-request.*", "webhook_duplicate")
        invoice = shop.sell()
        pay(shop, invoice)
        shop.pump()
        before = len(shop.calls("GET /v1/receive-requests"))
        shop.pump()

        assert len(shop.calls("GET /v1/receive-requests")) == before == 1
        assert len(receives_of(shop, invoice)) == 1

    def test_an_event_without_an_id_that_tells_nothing_new_is_repeated_only_while_reads_may_lag(
        self, shop: World
    ) -> None:
        shop.simulator.config.has_receive_id_in_events = False
        shop.subscribe()
        invoice = shop.sell()
        pay(shop, invoice)
        main_pass(shop.backend)

        assert shop.pump()[-1] == 503
        shop.wait(40)
        assert shop.pump()[-1] == 200

    def test_an_event_without_an_id_is_not_taken_for_that_of_an_earlier_payment(self, shop: World) -> None:
        shop.simulator.config.update({"has_receive_id_in_events": False, "receive_read_lag_seconds": 8})
        shop.subscribe()
        shop.fault("*", "receive-request.*", "webhook_delay", seconds=602)
        invoice = shop.sell()
        pay(shop, invoice)
        pay(shop, invoice, pending_seconds=600)
        shop.wait(600)

        for seconds in (3, 9, 27, 81):
            shop.pump()
            shop.wait(seconds)

        assert len(receives_of(shop, invoice)) == 2

    @pytest.mark.parametrize("created", [None, "soon"])
    def test_an_event_without_an_id_and_a_time_is_repeated_until_it_brings_a_payment(
        self, shop: World, created: str | None
    ) -> None:
        invoice = shop.sell()
        event = {"eventType": RECEIVE_COMPLETED, "data": {"entityId": invoice.strike_invoice_id}, "created": created}
        body = json.dumps(event).encode()

        with pytest.raises(StrikeUnavailable, match="not final yet"):
            receive_event(shop.backend.settlement, shop.backend.refund_sender, body)
        pay(shop, invoice)

        assert receive_event(shop.backend.settlement, shop.backend.refund_sender, body) is Outcome.SETTLED

    def test_a_flood_of_small_payments_costs_few_calls_by_webhooks_and_the_poller_finds_the_rest(
        self, shop: World
    ) -> None:
        shop.subscribe()
        invoice = shop.sell()
        for _ in range(MANY_PAYMENTS + 20):
            pay(shop, invoice, 1)
            shop.pump()
        pay(shop, invoice, invoice.amount_sats)

        assert set(shop.pump()) == {200}
        assert len(shop.calls("GET /v1/receive-requests")) == MANY_PAYMENTS
        main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert len(receives_of(shop, invoice)) == MANY_PAYMENTS + 21

    def test_a_webhook_before_strike_shows_the_payment_is_repeated(self, shop: World) -> None:
        shop.simulator.config.receive_read_lag_seconds = 30
        shop.subscribe()
        invoice = shop.sell()
        pay(shop, invoice)

        assert shop.pump()[-1] == 503
        shop.wait(60)
        shop.pump()

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED

    def test_a_webhook_is_repeated_while_strike_shows_only_an_earlier_payment(self, shop: World) -> None:
        shop.simulator.config.receive_read_lag_seconds = 30
        shop.subscribe()
        shop.fault("*", "receive-request.*", "webhook_delay", seconds=3_600)
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        shop.wait(40)
        pay(shop, invoice)

        assert shop.pump() == [503]
        assert len(receives_of(shop, invoice)) == 1
        shop.wait(60)
        shop.pump()

        assert len(receives_of(shop, invoice)) == 2
        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [PRICE]

    @pytest.mark.parametrize("currency", ["USD", "EUR"])
    @pytest.mark.parametrize("target", ["BTC", "EUR", "USD"])
    def test_a_strike_user_pays_in_another_currency_what_was_asked(
        self, make_world: Open, currency: str, target: str
    ) -> None:
        world = make_world(receive_with=ReceiveWith.RECEIVE_REQUEST, settle_in=target)
        world.simulator.config.strike_user_currency = currency
        invoice = world.sell()
        pay(world, invoice, is_strike_user=True)

        main_pass(world.backend)

        settled = world.invoice(invoice.strike_invoice_id)
        assert (settled.state, settled.received_sats) == (InvoiceState.SETTLED, invoice.amount_sats)
        assert settled.credited is not None
        assert settled.credited.currency == target
        assert refunds_of(world, invoice) == []

    def test_a_pending_payment_never_settles_and_keeps_the_invoice_open(self, shop: World) -> None:
        invoice = shop.sell()
        pay(shop, invoice, pending_seconds=900)

        main_pass(shop.backend)
        shop.wait(600)
        main_pass(shop.backend)

        pending = shop.invoice(invoice.strike_invoice_id)
        assert (pending.state, receives_of(shop, invoice)) == (InvoiceState.UNPAID, [])
        assert pending.seen_at is not None
        shop.wait(301)
        main_pass(shop.backend)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED

    def test_a_pending_payment_that_fails_is_forgotten(self, shop: World) -> None:
        invoice = shop.sell()
        pay(shop, invoice, pending_seconds=60, reverts=True)
        main_pass(shop.backend)
        shop.wait(90)

        main_pass(shop.backend)
        reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)

        assert shop.invoice(invoice.strike_invoice_id).seen_at is None


class TestOverpaid:
    def test_who_pays_twice_is_owed_the_second_payment(self, shop: World) -> None:
        shop.subscribe()
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        shop.pump()
        pay(shop, invoice)
        shop.pump()

        (refund,) = refunds_of(shop, invoice)
        paid = shop.invoice(invoice.strike_invoice_id)
        assert (refund.kind, refund.amount_sats) == (RefundKind.OVERPAID, invoice.amount_sats)
        assert (paid.state, paid.received_sats) == (InvoiceState.SETTLED, 2 * invoice.amount_sats)
        assert [one.owed_sats for one in receives_of(shop, invoice)] == [0, invoice.amount_sats]

    def test_a_second_payment_is_found_by_the_poller_alone_and_refunded_once(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        main_pass(shop.backend)
        pay(shop, invoice)

        for _ in range(3):
            shop.wait(61)
            expired_pass(shop.backend)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    @pytest.mark.parametrize("hours", [5, 100])
    def test_a_second_payment_is_found_after_the_workers_were_down(self, shop: World, hours: int) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        main_pass(shop.backend)
        pay(shop, invoice)
        shop.wait(timedelta(hours=hours).total_seconds())

        expired_pass(shop.backend)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    def test_a_worker_whose_clock_is_ahead_does_not_count_a_request_as_checked_since_its_end(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        shop.skew_seconds = 10 * 3_600
        expired_pass(shop.backend)
        shop.skew_seconds = 0
        pay(shop, invoice)
        shop.wait(timedelta(hours=5).total_seconds())

        expired_pass(shop.backend)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    def test_a_payment_just_before_the_end_is_found_though_reads_lag(self, shop: World) -> None:
        shop.simulator.config.receive_read_lag_seconds = 20
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        shop.wait(60)
        main_pass(shop.backend)
        shop.wait((invoice.issue.payable_until - shop.clock()).total_seconds() - 1)
        pay(shop, invoice)
        shop.wait(3)
        expired_pass(shop.backend)
        assert refunds_of(shop, invoice) == []
        shop.wait(timedelta(hours=5).total_seconds())

        expired_pass(shop.backend)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    def test_a_strike_user_who_pays_again_after_the_end_is_found_after_the_workers_were_down(self, shop: World) -> None:
        shop.simulator.config.is_strike_user_held_to_expiry = False
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        shop.wait((invoice.issue.payable_until - shop.clock()).total_seconds() + 600)
        expired_pass(shop.backend)
        shop.wait(600)
        pay(shop, invoice, is_strike_user=True)
        shop.wait(timedelta(hours=5).total_seconds())

        expired_pass(shop.backend)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    def test_a_request_that_has_ended_is_not_asked_for_again_and_again(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        main_pass(shop.backend)
        shop.wait(timedelta(hours=5).total_seconds())
        expired_pass(shop.backend)
        before = len(shop.calls("GET /v1/receive-requests"))
        shop.wait(timedelta(hours=2).total_seconds())
        expired_pass(shop.backend)

        assert len(shop.calls("GET /v1/receive-requests")) == before

    @pytest.mark.parametrize("config", [{}, {"array_filters": "refused"}])
    def test_a_second_payment_that_is_pending_for_hours_is_found_in_the_end(
        self, shop: World, config: dict[str, Any]
    ) -> None:
        shop.simulator.config.update(config)
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        pay(shop, invoice, pending_seconds=6 * 3_600)
        for _ in range(9):
            shop.wait(3_600)
            main_pass(shop.backend)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    @pytest.mark.parametrize("is_seen_by_a_pass", [False, True])
    def test_a_payment_that_is_pending_for_hours_is_found_after_another_has_paid_the_order(
        self, shop: World, is_seen_by_a_pass: bool
    ) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, pending_seconds=6 * 3_600)
        pay(shop, invoice, pending_seconds=3 * 3_600)
        for _ in range(2):
            shop.wait(3_600)
            main_pass(shop.backend)
        shop.wait(3_600 + 1)
        reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        if is_seen_by_a_pass:
            main_pass(shop.backend)
        shop.wait(20 * 3_600)

        main_pass(shop.backend)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    def test_what_is_paid_beyond_the_price_at_once_is_owed_back(self, shop: World) -> None:
        invoice = shop.sell()
        pay(shop, invoice, invoice.amount_sats + 500)

        main_pass(shop.backend)

        (refund,) = refunds_of(shop, invoice)
        assert (refund.kind, refund.amount_sats) == (RefundKind.OVERPAID, 500)
        assert EventType.REFUND_NEEDS_ADDRESS in events_of(shop, invoice)

    def test_dust_is_kept_until_there_is_more_of_it(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, invoice.amount_sats + DUST_SATS)
        main_pass(shop.backend)
        assert refunds_of(shop, invoice) == []

        pay(shop, invoice, 1)
        reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [DUST_SATS + 1]

    def test_many_workers_at_once_owe_each_payment_back_once(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        for _ in range(3):
            pay(shop, invoice)
        start = threading.Barrier(8)

        def settle() -> Outcome:
            start.wait()
            return reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)

        with ThreadPoolExecutor(8) as pool:
            outcomes = [one.result() for one in [pool.submit(settle) for _ in range(8)]]

        assert sorted(outcomes) == sorted([Outcome.SETTLED, *[Outcome.ALREADY] * 7])
        assert sum(one.amount_sats for one in refunds_of(shop, invoice)) == 2 * invoice.amount_sats
        assert len(receives_of(shop, invoice)) == 3
        assert events_of(shop, invoice).count(EventType.INVOICE_SETTLED) == 1

    def test_each_overpayment_without_an_address_asks_for_one(self, shop: World) -> None:
        invoice = shop.sell()
        for sats in (PRICE, 5_000, 6_000):
            pay(shop, invoice, sats)
            reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)

        refunds = refunds_of(shop, invoice)
        asked = [one for one in shop.deliveries(invoice) if one.event_type == EventType.REFUND_NEEDS_ADDRESS]
        assert [one.amount_sats for one in refunds] == [5_000, 6_000]
        assert {json.loads(one.body)["data"]["refund"]["id"] for one in asked} == {one.id for one in refunds}


class TestUnderpaid:
    def test_less_than_asked_is_announced_and_refunded_after_the_end(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, invoice.amount_sats - 1)
        main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        assert events_of(shop, invoice) == [EventType.INVOICE_UNDERPAID]
        assert refunds_of(shop, invoice) == []

        shop.wait(160)
        main_pass(shop.backend)

        (refund,) = refunds_of(shop, invoice)
        ended = shop.invoice(invoice.strike_invoice_id)
        assert (ended.state, refund.kind, refund.amount_sats) == (
            InvoiceState.PAID_LATE, RefundKind.LATE, invoice.amount_sats - 1,
        )  # fmt: skip
        assert EventType.INVOICE_EXPIRED not in events_of(shop, invoice)

    def test_parts_that_make_it_whole_in_time_settle(self, shop: World) -> None:
        invoice = shop.sell()
        pay(shop, invoice, invoice.amount_sats - 300)
        main_pass(shop.backend)
        pay(shop, invoice, 300)
        main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert refunds_of(shop, invoice) == []
        assert EventType.INVOICE_SETTLED in events_of(shop, invoice)

    def test_a_rest_in_the_last_second_settles_though_reads_lag(self, shop: World) -> None:
        shop.simulator.config.receive_read_lag_seconds = 20
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, 300)
        shop.wait((invoice.expires_at - shop.clock()).total_seconds() - 1)
        pay(shop, invoice, invoice.amount_sats - 300)
        for _ in range(5):
            shop.wait(12)
            main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert refunds_of(shop, invoice) == []

    def test_a_rest_that_comes_too_late_is_refunded_with_the_first_part(self, shop: World) -> None:
        shop.simulator.config.receive_grace_seconds = 600
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, invoice.amount_sats - 300)
        pay(shop, invoice, 300, late_seconds=130)

        main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE
        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    @pytest.mark.parametrize("part", [0, 300])
    def test_a_late_payment_does_not_lessen_what_is_missing(self, shop: World, part: int) -> None:
        shop.simulator.config.receive_grace_seconds = 600
        invoice = shop.sell(ln_address=ADDRESS)
        if part:
            pay(shop, invoice, part)
        pay(shop, invoice, invoice.amount_sats - part, pending_seconds=900)
        pay(shop, invoice, late_seconds=130)

        main_pass(shop.backend)

        announced = [json.loads(one.body)["data"] for one in shop.deliveries(invoice)]
        assert [(one["received_sats"], one["missing_sats"]) for one in announced] == (
            [(part, invoice.amount_sats - part)] if part else []
        )

        shop.wait(900)
        main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]


class TestLate:
    def test_a_late_payment_is_refunded_and_a_later_one_too(self, shop: World) -> None:
        shop.simulator.config.receive_grace_seconds = 3_600
        invoice = shop.sell(ln_address=ADDRESS)
        shop.wait(140)
        main_pass(shop.backend)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.EXPIRED
        pay(shop, invoice)
        shop.wait(61)
        expired_pass(shop.backend)
        pay(shop, invoice, 1_000)
        reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)

        found = [(one.kind, one.amount_sats) for one in refunds_of(shop, invoice)]
        assert found == [(RefundKind.LATE, invoice.amount_sats), (RefundKind.OVERPAID, 1_000)]
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE

    def test_a_payment_made_in_time_and_noticed_after_the_end_settles(self, shop: World) -> None:
        invoice = shop.sell()
        shop.fault("GET", "/v1/receive-requests/*", "error", times=None, status=503)
        pay(shop, invoice)
        shop.wait(300)
        main_pass(shop.backend)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        shop.simulator.faults.faults.clear()

        main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED

    def test_an_unpaid_request_expires_and_lapses_when_nothing_came(self, shop: World) -> None:
        invoice = shop.sell()
        shop.wait(140)
        main_pass(shop.backend)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.EXPIRED
        shop.wait(1_000)
        expired_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.LAPSED

    def test_an_accepted_late_payment_keeps_its_price_and_owes_the_rest_back(self, open_world: Open) -> None:
        shop = open_world(late_payments=LatePayments.ACCEPT)
        shop.simulator.config.receive_grace_seconds = 3_600
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, invoice.amount_sats + 400, late_seconds=180)

        main_pass(shop.backend)

        settled = shop.invoice(invoice.strike_invoice_id)
        assert (settled.state, settled.accepted_by) == (InvoiceState.SETTLED, Accepter.RULE)
        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [400]


class TestHeld:
    """A late payment waits for the operator's decision, and other payments come before that."""

    @pytest.fixture
    def shop(self, open_world: Open) -> World:
        shop = open_world(late_payments=LatePayments.HOLD)
        shop.simulator.config.receive_grace_seconds = 3_600
        return shop

    def pay_late(self, shop: World, *sats: int) -> Invoice:
        """Payments after the deadline, each noticed before the next one comes."""
        invoice = shop.sell(ln_address=ADDRESS)
        for late_seconds, amount in zip((180, 0, 0), sats, strict=False):
            pay(shop, invoice, amount, late_seconds=late_seconds)
            reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)
        return invoice

    def accept(self, shop: World, invoice: Invoice) -> None:
        backend = shop.backend
        accept_late_payment(backend.repository, invoice.strike_invoice_id, ALL_EVENTS, backend.clock())

    def test_once_accepted_what_is_beyond_the_price_is_owed_back(self, shop: World) -> None:
        invoice = self.pay_late(shop, PRICE + 400)

        self.accept(shop, invoice)

        found = [(one.kind, one.state, one.amount_sats) for one in refunds_of(shop, invoice)]
        assert found == [
            (RefundKind.LATE, RefundState.CANCELED, PRICE + 400),
            (RefundKind.OVERPAID, RefundState.REQUESTED, 400),
        ]
        assert [one.owed_sats for one in receives_of(shop, invoice)] == [400]

    def test_it_can_be_accepted_after_a_second_payment_which_is_owed_back_once(self, shop: World) -> None:
        invoice = self.pay_late(shop, PRICE, 5_000)

        self.accept(shop, invoice)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert [one.amount_sats for one in refunds_of(shop, invoice) if one.kind is RefundKind.OVERPAID] == [5_000]

    def test_a_payment_after_it_was_accepted_is_owed_back(self, shop: World) -> None:
        invoice = self.pay_late(shop, PRICE)
        self.accept(shop, invoice)

        pay(shop, invoice, 5_000)
        reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)

        assert [one.amount_sats for one in refunds_of(shop, invoice) if one.kind is RefundKind.OVERPAID] == [5_000]

    def test_less_than_the_price_cannot_be_accepted_though_more_came_after_it(self, shop: World) -> None:
        invoice = self.pay_late(shop, 300, PRICE)

        with pytest.raises(Conflict, match="waits for a decision"):
            self.accept(shop, invoice)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE
        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [300, PRICE]


class TestMixed:
    def test_both_ways_live_in_one_database_and_each_invoice_knows_its_own(self, shop: World) -> None:
        by_request = shop.sell()
        shop.restart(receive_with=ReceiveWith.INVOICE)
        by_invoice = shop.sell()
        pay(shop, by_request)
        shop.pay(by_invoice)

        main_pass(shop.backend)

        assert by_request.issue.receive_with is ReceiveWith.RECEIVE_REQUEST
        assert by_invoice.issue.receive_with is ReceiveWith.INVOICE
        for one in (by_request, by_invoice):
            assert shop.invoice(one.strike_invoice_id).state is InvoiceState.SETTLED

    def test_a_payment_of_a_foreign_request_is_stored_nowhere(self, shop: World) -> None:
        invoice = shop.sell()
        shop.restart(receive_with=ReceiveWith.INVOICE)
        shop.simulator.config.update({"array_filters": "ignored"})
        stranger = shop.backend.strike.receive_requests.create(invoice.amount_sats, None, 600, "BTC")
        shop.simulator.pay_invoice(stranger.bolt11)

        main_pass(shop.backend)

        with shop.backend.repository.engine.connect() as connection:
            assert connection.execute(select(func.count()).select_from(tables.receives)).scalar_one() == 0
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID


class TestCanceling:
    def test_a_cancelled_request_that_is_paid_after_all_is_refunded(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        shop.wait(5)
        answer = shop.client.post(f"/invoices/{invoice.strike_invoice_id}/cancel")
        assert (answer.status_code, answer.get_json()["state"]) == (200, "cancelled")
        shop.wait(5)
        pay(shop, invoice)
        reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE
        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    @pytest.mark.parametrize("answers", [1, 2, 3, 4])
    def test_strikes_first_answers_that_are_hours_off_do_not_make_it_end_in_the_past(
        self, shop: World, answers: int
    ) -> None:
        invoice = shop.sell()
        shop.wait(60)
        shop.restart()
        shop.fault("*", "/v1/*", "date", seconds=-7_200, times=answers)
        path, asked_at = f"/invoices/{invoice.strike_invoice_id}/cancel", shop.clock()

        statuses = [shop.client.post(path).status_code for _ in range(2)]

        assert statuses == ([200, 200] if answers == 1 else [503, 200])
        assert shop.invoice(invoice.strike_invoice_id).issue.expires_at >= asked_at

    def test_two_calls_that_cancel_it_at_the_same_time_are_both_answered(
        self, shop: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        invoice = shop.sell()
        path = f"/invoices/{invoice.strike_invoice_id}/cancel"
        send, answers = shop.adapter.send, []

        def cancel_meanwhile(*args: Any, **options: Any) -> Any:
            monkeypatch.undo()
            answers.append(shop.client.post(path))
            return send(*args, **options)

        monkeypatch.setattr(shop.adapter, "send", cancel_meanwhile)
        answers.append(shop.client.post(path))

        assert [(one.status_code, one.get_json()["state"]) for one in answers] == [(200, "cancelled")] * 2

    def test_it_is_answered_as_cancelled_though_it_is_paid_right_after(
        self, shop: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        invoice = shop.sell(ln_address=ADDRESS)

        def pay_it(record: logging.LogRecord) -> bool:
            """Called between the commit and the answer."""
            if record.getMessage().startswith("invoice cancelled for the shop"):
                shop.wait(5)
                pay(shop, invoice)
                reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)
            return True

        caplog.set_level(logging.INFO, cancel.log.name)
        monkeypatch.setattr(cancel.log, "filters", [pay_it])
        answer = shop.client.post(f"/invoices/{invoice.strike_invoice_id}/cancel")

        assert (answer.status_code, answer.get_json()["state"]) == (200, "cancelled")
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE

    @pytest.mark.parametrize("sats", [None, 100])
    def test_a_request_with_a_payment_is_not_cancelled(self, shop: World, sats: int | None) -> None:
        invoice = shop.sell()
        pay(shop, invoice, sats)

        assert shop.client.post(f"/invoices/{invoice.strike_invoice_id}/cancel").status_code == 409


@pytest.mark.untraced
def test_a_thousand_open_requests_cost_at_most_ten_calls_a_pass(make_world: Open) -> None:
    config = SimulatorConfig(rate_limits="off")
    world = make_world(receive_with=ReceiveWith.RECEIVE_REQUEST, config=config, time_offset_seconds=86_400)
    invoices = []
    for number in range(1_000):
        if number % 400 == 0:
            world.wait(700)
        invoices.append(world.sell(correlation_id=f"order-{number}"))
    world.wait(700)
    for one in (invoices[0], invoices[500], invoices[999]):
        pay(world, one)
    before = len(world.adapter.calls)

    main_pass(world.backend)

    calls = [one for one in world.adapter.calls[before:] if " /v1/" in one and "/rates/" not in one]
    assert len(calls) <= 10
    assert all(one.startswith("GET /v1/receive-requests/receives?") for one in calls)
    for one in (invoices[0], invoices[500], invoices[999]):
        assert world.invoice(one.strike_invoice_id).state is InvoiceState.SETTLED
    assert timedelta(hours=23) < invoices[0].expires_at - invoices[0].issue.opened_at <= timedelta(days=1)
