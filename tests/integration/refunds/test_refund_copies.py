"""A refund whose idempotency key was used by another copy of the database, or so long ago that it is uncertain."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from lnpay.domain.errors import StrikeRejected
from lnpay.domain.model import Invoice
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import HoldCause, RefundState
from lnpay.invoices.receives import reconcile_request
from lnpay.refunds.by_hand import approve
from lnpay.refunds.outcomes import hold_if_forked
from lnpay.refunds.paid_elsewhere import MOST_PAYMENTS
from lnpay.refunds.send import CLAIM, FORGOTTEN_AFTER
from lnpay.runtime.worker_passes import main_pass
from lnpay.sandbox.config import SimulatorConfig
from tests.integration.refunds.refund_steps import CLAIM_SECONDS, POST_QUOTE, after_call, before_call, oversleep
from tests.owing import ADDRESS, EXECUTE, PAYMENT, QUOTE, drain, history, owe, payouts, refund_of, send, twin
from tests.refunding import refund, refunds_of, sell_paid
from tests.world import World

EVENTS = "/v1/events"


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """Strike does not show quotes."""
    return make_world(config=SimulatorConfig(has_payment_quote_read=False))


def ask_elsewhere(world: World, sats: int, key: str) -> None:
    """Another copy of the database asks for a quote under this key."""
    world.backend.strike.create_payment_quote("alice@example.com", sats, key)


def test_a_key_that_was_never_used_here_holds_it_and_what_else_is_owed(world: World) -> None:
    invoice, other = owe(world), owe(world, "bob@example.com")
    refund = refund_of(world, invoice)
    ask_elsewhere(world, refund.amount_sats, refund.idempotency_key)

    send(world)

    held = [refund_of(world, one) for one in (invoice, other)]
    assert [(one.state, one.held_because) for one in held] == [(RefundState.HELD, HoldCause.FORKED)] * 2
    assert "DUPLICATE_PAYMENT_QUOTE" in [attempt.strike_code for attempt in history(world, invoice)]
    assert payouts(world) == []


def test_once_approved_it_is_sent_under_a_key_that_no_copy_has_used(world: World) -> None:
    invoice = owe(world)
    before = refund_of(world, invoice)
    ask_elsewhere(world, before.amount_sats, before.idempotency_key)
    send(world)

    approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
    send(world)

    after = refund_of(world, invoice)
    assert (after.state, after.key_number) == (RefundState.SENT, before.key_number + 1)
    assert after.idempotency_key != before.idempotency_key
    assert len(payouts(world)) == 1


def test_a_quote_whose_answer_was_lost_long_ago_is_left_to_a_person(world: World) -> None:
    invoice = owe(world)
    world.fault("POST", QUOTE, "lost_answer")
    send(world)
    assert refund_of(world, invoice).asked_at is not None

    world.wait(FORGOTTEN_AFTER.total_seconds())
    send(world)

    refund = refund_of(world, invoice)
    assert (refund.state, refund.held_because) == (RefundState.HELD, HoldCause.FORKED)
    assert payouts(world) == []


class TestTwoWorkers:
    """Each of two workers is answered DUPLICATE: neither may take the quote for the other's."""

    def test_the_first_worker_receives_its_answer_after_the_second(self, world: World) -> None:
        invoice = owe(world)
        refund = refund_of(world, invoice)
        ask_elsewhere(world, refund.amount_sats, refund.idempotency_key)
        other = twin(world)
        after_call(world, POST_QUOTE, lambda: oversleep(world, other))

        send(world)
        assert refund_of(world, invoice).state is RefundState.FAILED
        drain(world)

        held = refund_of(world, invoice)
        assert (held.state, held.held_because) == (RefundState.HELD, HoldCause.FORKED)
        assert payouts(world) == []
        other.close()

    def test_the_first_worker_receives_its_answer_before_the_second(self, world: World) -> None:
        invoice = owe(world)
        refund = refund_of(world, invoice)
        ask_elsewhere(world, refund.amount_sats, refund.idempotency_key)
        sender = world.backend.refund_sender
        with sender.repository.transaction() as tx:
            claimed = tx.refunds.claim(refund, until=sender.clock() + CLAIM)
            assert claimed is not None
            asked = tx.refunds.ask(claimed, sender.clock())
            assert asked is not None
        world.wait(CLAIM_SECONDS)
        duplicate = StrikeRejected("duplicate", status=422, strike_code="DUPLICATE_PAYMENT_QUOTE")
        said = []
        before_call(world, POST_QUOTE, lambda: said.append(hold_if_forked(sender, asked, duplicate)))

        send(world)

        held = refund_of(world, invoice)
        assert (said, held.state, held.held_because) == ([None], RefundState.HELD, HoldCause.FORKED)
        drain(world)
        assert payouts(world) == []

    def test_a_quote_that_the_second_worker_created_is_no_copy(self, world: World) -> None:
        invoice = owe(world)
        other = twin(world)
        before_call(world, POST_QUOTE, lambda: oversleep(world, other))

        send(world)

        assert refund_of(world, invoice).state is RefundState.SENT
        assert len(payouts(world)) == 1
        other.close()


class TestARawCopyThatLacksAnotherRefund:
    """What is lost must not move the keys of what is found or requested again."""

    def put_back(self, world: World, copy: Path, *, saves: bool = False) -> None:
        """The database as it was when `saves`; no mark says so."""
        world.backend.close()
        database = Path(world.database_url.removeprefix("sqlite:///"))
        shutil.copyfile(*((database, copy) if saves else (copy, database)))
        world.restart()

    def test_a_request_that_a_shop_repeats_is_held(self, world: World, tmp_path: Path) -> None:
        invoice = sell_paid(world)
        self.put_back(world, tmp_path / "copy", saves=True)
        refund(world, invoice, "unclaimed", amount_sats=100, address=None)
        refund(world, invoice, "repeated", amount_sats=500)
        send(world)
        assert [one.sats for one in payouts(world)] == [500]

        self.put_back(world, tmp_path / "copy")
        refund(world, invoice, "repeated", amount_sats=500)
        send(world)

        assert [one.held_because for one in refunds_of(world, invoice)] == [HoldCause.FORKED]
        assert len(payouts(world)) == 1

    def test_an_overpayment_that_is_found_again_is_held(self, make_world: Callable[..., World], tmp_path: Path) -> None:
        world = make_world(receive_with=ReceiveWith.RECEIVE_REQUEST)
        invoice = world.sell(ln_address=ADDRESS)
        world.pay(invoice)
        main_pass(world.backend)
        self.put_back(world, tmp_path / "copy", saves=True)
        refund(world, invoice, "unclaimed", amount_sats=100, address=None)
        world.pay(invoice)
        reconcile_request(world.backend.settlement, invoice.strike_invoice_id)
        send(world)
        assert [one.sats for one in payouts(world)] == [invoice.amount_sats]

        self.put_back(world, tmp_path / "copy")
        reconcile_request(world.backend.settlement, invoice.strike_invoice_id)
        send(world)

        assert [one.held_because for one in refunds_of(world, invoice)] == [HoldCause.FORKED]
        assert len(payouts(world)) == 1

    def test_each_further_key_is_another_one(self, world: World) -> None:
        invoice = sell_paid(world)
        keys = {refund(world, invoice, address="fail@example.com").idempotency_key}
        for _ in range(3):
            send(world)
            world.wait(3_600)
            send(world)
            keys.add(refunds_of(world, invoice)[0].idempotency_key)

        assert len(keys) == 4


class TestPaymentsOfTheAccount:
    """One request had no answer, and another payment of the account may be its quote's, sent by a copy."""

    @pytest.fixture
    def asked(self, world: World) -> Invoice:
        """Its late payment is refunded; the answer to the first request for a quote was lost."""
        invoice = owe(world)
        world.fault("POST", QUOTE, "lost_answer", times=1)
        send(world)
        return invoice

    def pay_out(self, world: World, sats: int, address: str = "alice@example.com") -> None:
        """Another program pays from the account."""
        quote = world.backend.strike.create_payment_quote(address, sats, str(uuid.uuid4()))
        world.backend.strike.execute_payment_quote(quote.quote_id)

    def test_of_the_same_amount_holds_the_refund(self, world: World, asked: Invoice) -> None:
        self.pay_out(world, refund_of(world, asked).amount_sats)

        drain(world)

        held = refund_of(world, asked)
        assert (held.state, held.held_because) == (RefundState.HELD, HoldCause.FORKED)
        assert "Strike shows a payment of this amount" in str(held.reason)

    @pytest.mark.parametrize("kind", ["another amount", "failed", "made before the sale", "of another refund"])
    def test_that_cannot_be_it_does_not_delay_the_refund(self, world: World, kind: str) -> None:
        sats = refund_of(world, owe(world, "bob@example.com")).amount_sats
        if kind == "made before the sale":
            self.pay_out(world, sats)
        if kind == "of another refund":
            send(world)
        else:
            world.fault("POST", QUOTE, "error", status=403, code="FORBIDDEN", times=1)
            send(world)
        world.wait(2)
        invoice = owe(world)
        world.fault("POST", QUOTE, "lost_answer", times=1)
        send(world, (RefundState.REQUESTED,))
        if kind == "another amount":
            self.pay_out(world, sats + 1)
        if kind == "failed":
            self.pay_out(world, sats, "fail@example.com")

        drain(world)

        assert refund_of(world, invoice).state is RefundState.SENT

    def test_of_a_refund_that_cannot_be_read_does_not_stop_the_refund(self, world: World) -> None:
        owe(world, "bob@example.com")
        send(world)
        with world.backend.repository.engine.begin() as connection:
            connection.execute(text("UPDATE refunds SET amount_fiat = 'much'"))
        invoice = owe(world)
        world.fault("POST", QUOTE, "lost_answer", times=1)

        drain(world)

        assert refund_of(world, invoice).state is RefundState.SENT

    @pytest.mark.parametrize("done", ["with_id", "without_id"])
    def test_that_another_refund_of_the_amount_explains(self, world: World, done: str) -> None:
        world.simulator.config.execute_again_done = done
        other = owe(world, "bob@example.com")
        world.fault("PATCH", EXECUTE, "lost_answer", times=12)
        send(world)
        invoice = owe(world)
        world.fault("POST", QUOTE, "lost_answer", times=1)
        drain(world, hours=0.005)
        assert refund_of(world, other).state is RefundState.IN_FLIGHT
        assert refund_of(world, invoice).state is RefundState.REQUESTED

        drain(world)

        assert [refund_of(world, one).state for one in (other, invoice)] == [RefundState.SENT] * 2
        assert len(payouts(world)) == 2

    def test_too_many_to_read_holds_the_refund(self, world: World, asked: Invoice) -> None:
        for _ in range(MOST_PAYMENTS + 1):
            self.pay_out(world, 1_000)

        drain(world)

        assert refund_of(world, asked).held_because is HoldCause.FORKED

    def test_that_cannot_be_read_holds_the_refund(self, world: World, asked: Invoice) -> None:
        self.pay_out(world, 1_000)
        world.fault("GET", PAYMENT, "error", status=404, code="NOT_FOUND", times=9)

        drain(world)

        assert refund_of(world, asked).held_because is HoldCause.FORKED

    def test_are_found_where_filters_are_refused(self, world: World, asked: Invoice) -> None:
        world.simulator.config.filter_policy = "block_all"
        self.pay_out(world, refund_of(world, asked).amount_sats)

        drain(world)

        assert refund_of(world, asked).held_because is HoldCause.FORKED

    def test_the_refund_waits_until_strike_shows_them(self, world: World, asked: Invoice) -> None:
        world.fault("GET", EVENTS, "unreachable", times=3)

        drain(world, hours=0.01)
        assert refund_of(world, asked).state is RefundState.REQUESTED
        drain(world)

        assert refund_of(world, asked).state is RefundState.SENT
        assert len(payouts(world)) == 1

    def test_the_refund_is_sent_if_the_key_may_not_read_events(self, world: World, asked: Invoice) -> None:
        world.fault("GET", EVENTS, "error", status=403, code="FORBIDDEN", times=9)

        drain(world)

        assert refund_of(world, asked).state is RefundState.SENT


class TestAQuoteThatExpiredUnused:
    """Its only execution was put off by Strike. A new quote is requested unless a copy may have executed this one."""

    @pytest.fixture
    def put_off(self, world: World) -> Invoice:
        """Its refund is in flight, and the quote has expired."""
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "error", status=429, code="TOO_MANY_ATTEMPTS", times=1)
        send(world)
        world.wait(600)
        return invoice

    def test_is_replaced(self, world: World, put_off: Invoice) -> None:
        drain(world)

        assert refund_of(world, put_off).state is RefundState.SENT
        assert len(payouts(world)) == 1

    def test_is_not_replaced_before_strike_shows_the_payments(self, world: World, put_off: Invoice) -> None:
        world.fault("GET", EVENTS, "unreachable", times=1)

        send(world)

        refund = refund_of(world, put_off)
        assert (refund.state, refund.is_in_doubt) == (RefundState.IN_FLIGHT, False)
        drain(world)
        assert refund_of(world, put_off).state is RefundState.SENT

    def test_is_left_to_the_operator_if_a_payment_may_be_its_own(self, world: World, put_off: Invoice) -> None:
        key = str(uuid.uuid4())
        quote = world.backend.strike.create_payment_quote(ADDRESS, refund_of(world, put_off).amount_sats, key)
        world.backend.strike.execute_payment_quote(quote.quote_id)

        drain(world)

        refund = refund_of(world, put_off)
        assert (refund.state, refund.stuck_at is not None) == (RefundState.IN_FLIGHT, True)
        assert len(payouts(world)) == 1
