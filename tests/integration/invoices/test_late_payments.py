"""LATE_PAYMENTS: a late payment is refunded, accepted or held, and never both accepted and refunded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from lnpay.domain.errors import Conflict, NotFound, ShopRefused
from lnpay.domain.model import Event, Invoice, Order
from lnpay.domain.states import Accepter, EndpointForm, HoldCause, InvoiceState, LatePayments, RefundState
from lnpay.invoices.cancel import cancel_invoice
from lnpay.invoices.create import create_invoice
from lnpay.invoices.late import PRICE_PATIENCE, accept_late_payment
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.refunds.after_restore import doubt_refunds
from lnpay.refunds.by_hand import approve, give_address
from lnpay.repository.invoices import Invoices
from lnpay.runtime.backend import Backend
from lnpay.runtime.worker_passes import expired_pass, main_pass
from lnpay.sandbox.config import SimulatorConfig
from tests.databases import migrated_postgres
from tests.endpoint_shop import add_endpoint, open_shops
from tests.owing import ADDRESS, Crash, Moments, drain, executions, history, refund_of, send, twin
from tests.world import ALL_EVENTS, World

LATE_SECONDS = 180
"""After the deadline of an invoice of two minutes, and more than a minute after the sale's price."""

Open = Callable[..., World]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Make a world with a policy, over each kind of database."""
    with ExitStack() as stack:

        def make(policy: LatePayments, **changes: Any) -> World:
            if request.param == "postgresql":
                server = request.getfixturevalue("postgres_server")
                changes["database_url"] = stack.enter_context(migrated_postgres(server))
            world = World.make(tmp_path, late_payments=policy, delivery_events=ALL_EVENTS, **changes)
            stack.callback(world.close)
            return world

        yield make


def pay_late(world: World, *, price: str | None = None, **fields: Any) -> Invoice:
    """An invoice that its customer has paid too late. price: of one bitcoin since then, in percent of the sale's."""
    invoice = world.sell(**{"ln_address": ADDRESS, **fields})
    world.pay(invoice, late_seconds=LATE_SECONDS)
    if price is not None:
        world.simulator.rates.set_price(invoice.order.currency, invoice.rate.price * Decimal(price) / 100)
    return invoice


def look(world: World, invoice: Invoice, backend: Backend | None = None) -> Outcome:
    return reconcile_invoice((backend or world.backend).settlement, invoice.strike_invoice_id)


def accept(world: World, invoice: Invoice) -> Invoice:
    return accept_late_payment(
        world.backend.repository, invoice.strike_invoice_id, world.backend.settlement.events, world.backend.clock()
    )


def told(world: World, invoice: Invoice) -> list[str]:
    """What the shop was told, in order."""
    main_pass(world.backend)
    return [one["type"] for one in world.told() if one["data"]["invoice_id"] == invoice.strike_invoice_id]


def refuse(_: Event) -> None:
    raise ShopRefused("the shop is closed")


def check_one_of_two(world: World, invoice: Invoice) -> bool:
    """Whether the payment is accepted. Checks that it is then not refunded, and otherwise refunded once."""
    drain(world)
    main_pass(world.backend)
    known = world.invoice(invoice.strike_invoice_id)
    refund = world.refund(invoice)
    is_accepted = known.state is InvoiceState.SETTLED
    has_message = "invoice.settled" in [one.event_type for one in world.deliveries(invoice)]
    assert has_message == is_accepted == (known.accepted_by is not None)
    if is_accepted:
        assert executions(world) == []
        assert refund is None or refund.state is RefundState.CANCELED
    else:
        assert known.state is InvoiceState.PAID_LATE
        assert refund is not None
        assert refund.state is RefundState.SENT
        assert executions(world) == ["COMPLETED"]
    return is_accepted


class TestAccept:
    @pytest.mark.parametrize(
        ("price", "is_accepted"),
        [("100", True), ("130", True), ("99.01", True), ("99", False), ("98", False), ("50", False)],
    )
    def test_the_price_decides(self, open_world: Open, price: str, is_accepted: bool) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world, price=price)

        assert look(world, invoice) is (Outcome.SETTLED if is_accepted else Outcome.PAID_LATE)
        assert look(world, invoice) is Outcome.ALREADY
        known = world.invoice(invoice.strike_invoice_id)
        assert known.accepted_by is (Accepter.RULE if is_accepted else None)
        assert (known.accepted_price is not None) == is_accepted
        assert check_one_of_two(world, invoice) == is_accepted
        assert sorted(told(world, invoice)) == (
            ["invoice.settled"] if is_accepted else ["invoice.paid_late", "refund.sent"]
        )

    @pytest.mark.parametrize(("percent", "price", "is_accepted"), [
        ("0", "100", True), ("0", "99.9", False), ("5", "95.1", True), ("5", "95", False),
    ])  # fmt: skip
    def test_the_setting_says_how_far_it_may_fall(
        self, open_world: Open, percent: str, price: str, is_accepted: bool
    ) -> None:
        world = open_world(LatePayments.ACCEPT, late_accept_percent=Decimal(percent))
        invoice = pay_late(world, price=price)
        look(world, invoice)

        assert check_one_of_two(world, invoice) == is_accepted

    def test_why_it_is_refunded_is_in_its_history(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world, price="90")
        look(world, invoice)

        (first,) = history(world, invoice)
        assert first.outcome.startswith("not accepted: one bitcoin was worth 64,250.5")
        assert first.outcome.endswith("LATE_ACCEPT_PERCENT is 1")

    def test_the_message_says_that_it_was_late(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world)
        main_pass(world.backend)
        world.wait(5)
        in_time = world.sell(correlation_id="in time")
        world.pay(in_time)
        main_pass(world.backend)

        late, other = world.told()
        assert (late["status"], late["data"]["accepted_late"]) == ("success", True)
        assert "accepted_late" not in other["data"]
        answers = [world.client.get(f"/invoices/{one.strike_invoice_id}").get_json() for one in (invoice, in_time)]
        assert [(one["state"], one["accepted_late"]) for one in answers] == [("settled", True), ("settled", False)]

    def test_an_amount_in_bitcoin_has_no_price_that_could_fall(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world, amount_fiat="5000", currency="sats")
        world.fault("GET", "/coingecko/*", "error", status=500)
        world.fault("GET", "/coinbase/*", "error", status=500)
        look(world, invoice)

        assert check_one_of_two(world, invoice)

    def test_an_expiry_that_was_not_sent_yet_is_withdrawn(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = world.sell(ln_address=ADDRESS)
        world.deliver = refuse
        world.wait(140)
        main_pass(world.backend)
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.EXPIRED
        world.pay(invoice)
        look(world, invoice)

        states = {one.event_type: one.state for one in world.deliveries(invoice)}
        assert states == {"invoice.expired": "withdrawn", "invoice.settled": "pending"}

    @pytest.mark.parametrize("state", ["lapsed", "expired"])
    def test_one_that_was_over_already(self, open_world: Open, state: str) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = world.sell(ln_address=ADDRESS)
        world.pay(invoice, late_seconds=LATE_SECONDS)
        with world.backend.repository.engine.begin() as connection:
            connection.execute(text("UPDATE invoices SET state = :state"), {"state": state})
        look(world, invoice)

        assert check_one_of_two(world, invoice)


class TestNoPrice:
    def hide_prices(self, world: World) -> None:
        for path in ("/coingecko/*", "/coinbase/*", "/v1/rates/*"):
            world.fault("GET", path, "error", status=500, times=50)

    def test_it_waits_for_one_and_is_refunded_when_there_is_none(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world)
        self.hide_prices(world)
        world.wait(60)

        assert look(world, invoice) is Outcome.NOT_FINAL
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        world.wait(PRICE_PATIENCE.total_seconds())
        assert look(world, invoice) is Outcome.PAID_LATE
        assert [one.outcome for one in history(world, invoice)] == [
            "not accepted: no price of bitcoin could be trusted"
        ]
        assert not check_one_of_two(world, invoice)

    def test_a_price_that_comes_while_it_waits_decides(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world)
        self.hide_prices(world)
        assert look(world, invoice) is Outcome.NOT_FINAL

        world.simulator.faults.remove()
        world.wait(10)
        assert look(world, invoice) is Outcome.SETTLED
        assert check_one_of_two(world, invoice)

    def test_sources_that_disagree_are_no_price(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world)
        world.simulator.rates.set_price("usd", "64000", "coingecko")
        world.simulator.rates.set_price("usd", "74000", "coinbase")

        assert look(world, invoice) is Outcome.NOT_FINAL

    def test_the_webhook_is_repeated_until_the_price_is_known(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        world.subscribe()
        invoice = pay_late(world)
        self.hide_prices(world)
        assert 503 in world.pump()

        world.simulator.faults.remove()
        world.wait(10)
        assert world.pump() == [200]
        assert check_one_of_two(world, invoice)

    def test_the_price_of_the_sale_says_nothing_of_now(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world)
        world.simulator.rates.ages.update(dict.fromkeys(world.simulator.rates.ages, 250.0))

        assert look(world, invoice) is Outcome.NOT_FINAL


class TestWhatIsNeverAccepted:
    @pytest.mark.parametrize("policy", [LatePayments.ACCEPT, LatePayments.HOLD])
    def test_an_order_that_is_paid_already(self, open_world: Open, policy: LatePayments) -> None:
        world = open_world(policy)
        first = world.sell(ln_address=ADDRESS, correlation_id="1-a", order_id="1")
        world.wait(140)
        main_pass(world.backend)
        second = world.sell(ln_address=ADDRESS, correlation_id="1-b", order_id="1")
        world.pay(second)
        look(world, second)
        world.pay(first)
        look(world, first)

        assert not check_one_of_two(world, first)
        assert "the order was paid already" in history(world, first)[0].outcome

    @pytest.mark.parametrize("policy", [LatePayments.ACCEPT, LatePayments.HOLD])
    def test_an_order_of_a_plugin_that_is_paid_already(self, open_world: Open, policy: LatePayments) -> None:
        world = open_world(policy)
        order = Order(Decimal("12.34"), "usd", None, ADDRESS, order_id="1", checkout_options={}, expires_in=120)
        first = create_invoice(world.backend.issuer, "1-a", order)
        world.wait(140)
        main_pass(world.backend)
        second = create_invoice(world.backend.issuer, "1-b", order)
        world.pay(second)
        look(world, second)
        world.pay(first)
        look(world, first)

        assert not check_one_of_two(world, first)
        assert "the order was paid already" in history(world, first)[0].outcome

    @pytest.mark.parametrize("policy", [LatePayments.ACCEPT, LatePayments.HOLD])
    def test_an_invoice_that_the_shop_has_cancelled(self, open_world: Open, policy: LatePayments) -> None:
        world = open_world(policy, config=SimulatorConfig(is_payable_after_cancel=True))
        invoice = world.sell(ln_address=ADDRESS)
        cancel_invoice(world.backend.settlement, invoice.strike_invoice_id)
        world.wait(LATE_SECONDS)
        world.pay(invoice)
        look(world, invoice)

        refund = refund_of(world, invoice)
        assert refund.state is RefundState.REQUESTED
        assert history(world, invoice)[0].outcome == "not accepted: the invoice was cancelled before it was paid"

    @pytest.mark.parametrize("policy", [LatePayments.ACCEPT, LatePayments.HOLD])
    def test_what_may_have_been_refunded_before_a_restore(self, open_world: Open, policy: LatePayments) -> None:
        world = open_world(policy)
        invoice = pay_late(world)
        with world.backend.repository.transaction() as tx:
            doubt_refunds(tx, world.backend.clock())
        look(world, invoice)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE
        send(world)
        assert refund_of(world, invoice).held_because is HoldCause.RESTORED
        with pytest.raises(Conflict):
            accept(world, invoice)
        assert executions(world) == []

    def test_a_part_of_the_amount(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world)
        with world.backend.repository.engine.begin() as connection:
            connection.execute(text("UPDATE invoices SET amount_sats = amount_sats + 1"))
        look(world, invoice)

        assert not check_one_of_two(world, invoice)
        assert "is less than" in history(world, invoice)[0].outcome

    def test_the_database_knows_no_accepted_payment_that_is_refunded(self, open_world: Open) -> None:
        world = open_world(LatePayments.REFUND)
        invoice = pay_late(world)
        look(world, invoice)

        with pytest.raises(IntegrityError), world.backend.repository.engine.begin() as connection:
            connection.execute(text("UPDATE invoices SET accepted_by = 'rule'"))


class TestNothingReceived:
    @pytest.mark.parametrize("policy", list(LatePayments))
    def test_a_late_payment_of_nothing_is_held_and_not_refunded(self, open_world: Open, policy: LatePayments) -> None:
        world = open_world(policy)
        invoice = world.sell(ln_address=ADDRESS)
        world.simulator.clock.advance(LATE_SECONDS)
        world.simulator.pay_invoice(invoice.issue.bolt11, received_sats=0)

        assert look(world, invoice) is Outcome.PAID_LATE
        drain(world)
        refund = refund_of(world, invoice)
        assert (refund.state, refund.held_because) == (RefundState.HELD, HoldCause.LATE_PAYMENT)
        assert executions(world) == []


class TestHold:
    def held(self, world: World, **fields: Any) -> Invoice:
        invoice = pay_late(world, **fields)
        assert look(world, invoice) is Outcome.PAID_LATE
        return invoice

    @pytest.mark.parametrize("address", [ADDRESS, None])
    def test_nothing_happens_before_the_operator_decides(self, open_world: Open, address: str | None) -> None:
        world = open_world(LatePayments.HOLD)
        invoice = self.held(world, ln_address=address)
        drain(world)
        world.wait(timedelta(days=3).total_seconds())
        expired_pass(world.backend)
        refund = refund_of(world, invoice)

        assert (refund.state, refund.held_because) == (RefundState.HELD, HoldCause.LATE_PAYMENT)
        assert executions(world) == []
        assert told(world, invoice) == ["invoice.paid_late"]
        (message,) = world.told()
        assert message["data"]["held"] is True
        assert message["message"] == "The payment came too late; it waits for your decision to accept or refund it."
        with pytest.raises(Conflict):
            give_address(world.backend.repository, refund.token, ADDRESS, world.clock())

    def test_the_operator_accepts_it(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)
        invoice = self.held(world)
        main_pass(world.backend)

        settled = accept(world, invoice)
        assert (settled.state, settled.accepted_by) == (InvoiceState.SETTLED, Accepter.OPERATOR)
        assert accept(world, invoice).accepted_by is Accepter.OPERATOR
        with pytest.raises(Conflict):
            approve(world.backend.repository, invoice.strike_invoice_id, world.clock())
        assert check_one_of_two(world, invoice)
        assert told(world, invoice) == ["invoice.paid_late", "invoice.settled"]

    def test_the_operator_refunds_it(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)
        invoice = self.held(world)

        approve(world.backend.repository, invoice.strike_invoice_id, world.clock())
        with pytest.raises(Conflict):
            accept(world, invoice)
        assert not check_one_of_two(world, invoice)

    def test_without_an_address_the_customer_is_asked_next(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)
        invoice = self.held(world, ln_address=None)

        approve(world.backend.repository, invoice.strike_invoice_id, world.clock(), ALL_EVENTS)
        refund = refund_of(world, invoice)
        assert refund.state is RefundState.NEEDS_ADDRESS
        give_address(world.backend.repository, refund.token, ADDRESS, world.clock())
        assert not check_one_of_two(world, invoice)
        assert sorted(told(world, invoice)) == ["invoice.paid_late", "refund.needs_address", "refund.sent"]

    def test_a_message_of_the_late_payment_never_follows_that_of_the_sale(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)
        invoice = self.held(world)
        accept(world, invoice)

        assert told(world, invoice) == ["invoice.settled"]

    def test_a_restore_puts_it_in_doubt(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)
        invoice = self.held(world)
        with world.backend.repository.transaction() as tx:
            doubt_refunds(tx, world.backend.clock())

        with pytest.raises(Conflict):
            accept(world, invoice)
        refund = refund_of(world, invoice)
        assert refund.held_because is HoldCause.RESTORED
        assert str(refund.reason).endswith("unless the late payment was accepted and the order delivered")

    def test_the_order_is_paid_by_another_invoice_meanwhile(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)
        first = self.held(world, correlation_id="1-a", order_id="1")
        second = world.sell(ln_address=ADDRESS, correlation_id="1-b", order_id="1")
        world.pay(second)
        look(world, second)

        with pytest.raises(Conflict, match="the order was paid already"):
            accept(world, first)
        assert refund_of(world, first).state is RefundState.HELD

    def test_a_decision_that_was_quicker_wins(self, open_world: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        world = open_world(LatePayments.HOLD)
        invoice = self.held(world)

        def decide_first(rows: Invoices) -> None:
            rows._connection.execute(text("UPDATE refunds SET claims = claims + 1"))

        monkeypatch.setattr(Invoices, "take_turn_accepting", decide_first)
        with pytest.raises(Conflict, match="at the same moment"):
            accept(world, invoice)
        assert refund_of(world, invoice).state is RefundState.HELD
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE

    def test_what_is_not_held_cannot_be_accepted(self, open_world: Open) -> None:
        world = open_world(LatePayments.REFUND)
        late, open_one = pay_late(world), world.sell(correlation_id="open")
        look(world, late)

        for invoice in (late, open_one):
            with pytest.raises(Conflict, match="no late payment of this invoice waits for a decision"):
                accept(world, invoice)
        with pytest.raises(NotFound):
            accept_late_payment(world.backend.repository, "none", ALL_EVENTS, world.clock())


class TestInterleavings:
    def test_two_workers_with_different_policies(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoice = pay_late(world)
        world.changes["late_payments"] = LatePayments.REFUND
        other = twin(world)
        barrier = threading.Barrier(2)

        def settle_in(backend: Backend) -> Outcome:
            barrier.wait()
            return look(world, invoice, backend)

        with ThreadPoolExecutor(2) as pool:
            outcomes = sorted(pool.map(settle_in, (world.backend, other)))
        other.close()

        assert Outcome.ALREADY in outcomes
        check_one_of_two(world, invoice)

    def test_accept_and_approve_at_the_same_moment(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)
        for number in range(8):
            invoice = pay_late(world, correlation_id=f"{number}")
            look(world, invoice)
            barrier = threading.Barrier(4)

            def click(action: str, barrier: threading.Barrier = barrier, invoice: Invoice = invoice) -> bool:
                barrier.wait()
                with suppress(Conflict):
                    if action == "accept":
                        accept(world, invoice)
                    else:
                        approve(world.backend.repository, invoice.strike_invoice_id, world.clock())
                    return True
                return False

            with ThreadPoolExecutor(4) as pool:
                done = list(pool.map(click, ["accept", "approve", "accept", "approve"]))
            accepted, approved = done[0] or done[2], done[1] or done[3]
            assert accepted != approved
            refund = refund_of(world, invoice)
            known = world.invoice(invoice.strike_invoice_id)
            assert (known.state is InvoiceState.SETTLED) == accepted == (refund.state is RefundState.CANCELED)

    @pytest.mark.parametrize("policy", [LatePayments.ACCEPT, LatePayments.HOLD])
    @pytest.mark.parametrize("is_inside", [False, True])
    def test_a_crash_at_every_moment(self, tmp_path: Path, policy: LatePayments, is_inside: bool) -> None:
        fatal = 0
        while True:
            folder = tmp_path / f"{fatal}"
            folder.mkdir()
            world = World.make(folder, late_payments=policy, delivery_events=ALL_EVENTS)
            invoice = pay_late(world)
            moments = Moments(world, fatal, _die, is_inside=is_inside)
            with suppress(Crash):
                look(world, invoice)
                if policy is LatePayments.HOLD:
                    accept(world, invoice)
            moments.end()
            is_over = moments.is_over
            world.restart()
            look(world, invoice)
            if policy is LatePayments.HOLD:
                accept(world, invoice)
            assert check_one_of_two(world, invoice)
            assert told(world, invoice)[-1] == "invoice.settled"
            world.close()
            if not is_over:
                return
            fatal += 1

    def test_the_webhook_and_the_poller_see_it(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        world.subscribe()
        invoice = pay_late(world)
        main_pass(world.backend)
        world.pump()
        expired_pass(world.backend)

        assert check_one_of_two(world, invoice)
        assert [one.event_type for one in world.deliveries(invoice)] == ["invoice.settled"]

    def test_two_late_payments_of_one_order_are_not_both_accepted(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        invoices = []
        for number in range(2):
            invoices.append(world.sell(ln_address=ADDRESS, correlation_id=f"1-{number}", order_id="1"))
            world.wait(140)
            main_pass(world.backend)
        for invoice in invoices:
            world.pay(invoice)
        barrier = threading.Barrier(2)

        def settle(invoice: Invoice) -> Outcome:
            barrier.wait()
            return look(world, invoice)

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(settle, invoices)) == [Outcome.PAID_LATE, Outcome.SETTLED]


def _die() -> None:
    raise Crash


class TestGreenfield:
    URL = "https://shop.test/hook"

    def types(self, world: World, policy_done: Callable[[Invoice], object]) -> tuple[list[str], list[Any]]:
        shops = open_shops(world)
        add_endpoint(world, self.URL)
        invoice = pay_late(world, ln_address=None)
        policy_done(invoice)
        main_pass(world.backend)
        return shops.types(self.URL), shops.accepted(self.URL)

    def test_what_is_accepted_by_rule_is_late_and_paid(self, open_world: Open) -> None:
        world = open_world(LatePayments.ACCEPT)
        types, bodies = self.types(world, lambda invoice: look(world, invoice))

        assert types[-2:] == ["InvoiceReceivedPayment", "InvoicePaymentSettled"]
        assert "InvoiceSettled" not in types
        assert [one["afterExpiration"] for one in bodies[-2:]] == [True, True]

    def test_what_is_held_is_over_and_then_paid(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)

        def decide(invoice: Invoice) -> None:
            look(world, invoice)
            main_pass(world.backend)
            accept(world, invoice)

        types, _ = self.types(world, decide)
        assert types == ["InvoiceCreated", "InvoiceExpired", "InvoiceReceivedPayment", "InvoicePaymentSettled"]

    def test_what_is_held_and_refunded_is_never_seen(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)

        def decide(invoice: Invoice) -> None:
            look(world, invoice)
            approve(world.backend.repository, invoice.strike_invoice_id, world.clock())

        types, _ = self.types(world, decide)
        assert types == ["InvoiceCreated", "InvoiceExpired"]

    def test_a_standard_endpoint_is_notified_too(self, open_world: Open) -> None:
        world = open_world(LatePayments.HOLD)
        shops = open_shops(world)
        add_endpoint(world, self.URL, form=EndpointForm.STANDARD)
        invoice = pay_late(world)
        look(world, invoice)
        main_pass(world.backend)
        accept(world, invoice)
        main_pass(world.backend)

        assert shops.types(self.URL) == ["invoice.paid_late", "invoice.settled"]
