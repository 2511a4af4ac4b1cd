"""Fees and sums have limits; what is above them waits for a person."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from lnpay.domain.states import HoldCause, RefundState
from lnpay.refunds.by_hand import (
    approve,
    change_address,
    give_address,
)
from lnpay.sandbox.config import SimulatorConfig
from tests.integration.refunds.refund_steps import POST_QUOTE, MakeWorld, before_call, change_quotes, told_of
from tests.owing import (
    ADDRESS,
    drain,
    executions,
    history,
    owe,
    payouts,
    refund_of,
    send,
)
from tests.world import ALL_EVENTS, World


def shrink(world: World, sats: int) -> None:
    """Have every refund be of so many sats."""
    with world.backend.repository.engine.begin() as connection:
        connection.execute(text("UPDATE refunds SET amount_sats = :sats"), {"sats": sats})


def change_rules(world: World, **changes: Any) -> None:
    """As if the process had other settings."""
    rules = world.backend.refund_sender.rules
    for name, value in changes.items():
        object.__setattr__(rules, name, value)


class TestTheFee:
    @pytest.mark.parametrize(("fee", "is_sent"), [(10, True), (11, False)])
    def test_a_fee_of_ten_sats_is_never_too_high(self, make_world: MakeWorld, fee: int, is_sent: bool) -> None:
        config = SimulatorConfig(payout_fee_base_sats=fee, payout_fee_ppm=0)
        world = make_world(config=config, refund_max_fee_percent=Decimal(0))
        owe(world)

        assert send(world) == {RefundState.SENT if is_sent else RefundState.FAILED: 1}

    @pytest.mark.parametrize(
        ("sats", "fee", "is_sent"), [(99, 9, True), (99, 10, False), (16, 1, True), (16, 2, False)]
    )
    def test_the_fee_of_a_small_refund_is_at_most_a_tenth(
        self, make_world: MakeWorld, sats: int, fee: int, is_sent: bool
    ) -> None:
        config = SimulatorConfig(payout_fee_base_sats=fee, payout_fee_ppm=0)
        world = make_world(config=config, refund_min_sats=0)
        invoice = owe(world)
        shrink(world, sats)

        assert send(world) == {RefundState.SENT if is_sent else RefundState.FAILED: 1}
        assert refund_of(world, invoice).amount_sats == sats

    @pytest.mark.parametrize(("fee", "is_sent"), [(384, True), (385, False)])
    def test_more_than_the_percentage_is_not_paid(self, make_world: MakeWorld, fee: int, is_sent: bool) -> None:
        world = make_world(config=SimulatorConfig(payout_fee_base_sats=fee, payout_fee_ppm=0))
        invoice = owe(world)
        assert refund_of(world, invoice).amount_sats == 19_207

        assert send(world) == {RefundState.SENT if is_sent else RefundState.FAILED: 1}
        assert len(payouts(world)) == len(executions(world)) == is_sent

    @pytest.mark.parametrize(("fee", "is_sent"), [(384, True), (385, False)])
    def test_the_permitted_fee_is_rounded_down(self, make_world: MakeWorld, fee: int, is_sent: bool) -> None:
        """2.003 % of 19,207 sats are 384.7 sats."""
        config = SimulatorConfig(payout_fee_base_sats=fee, payout_fee_ppm=0)
        world = make_world(config=config, refund_max_fee_percent=Decimal("2.003"))
        owe(world)

        assert send(world) == {RefundState.SENT if is_sent else RefundState.FAILED: 1}

    def test_the_operator_reads_by_how_much_and_it_is_tried_again(self, make_world: MakeWorld) -> None:
        world = make_world(config=SimulatorConfig(payout_fee_base_sats=400, payout_fee_ppm=0))
        invoice = owe(world)

        send(world)
        refund = refund_of(world, invoice)
        assert refund.reason == "the fee of 400 sats exceeds the 384 sats that REFUND_MAX_FEE_PERCENT allows"
        assert (history(world, invoice)[0].step, history(world, invoice)[0].fee_sats) == ("quote", 400)

        world.simulator.config.payout_fee_base_sats = 1
        drain(world)
        assert len(payouts(world)) == 1

    @pytest.mark.parametrize("more", [-1, 1])
    def test_a_quote_over_another_amount_is_never_executed(self, world: World, more: int) -> None:
        invoice = owe(world)
        change_quotes(world, lambda quote: dataclasses.replace(quote, amount_sats=quote.amount_sats + more))

        assert send(world) == {RefundState.FAILED: 1}
        assert f"Strike's quote sends {19_207 + more:,} sats" in str(refund_of(world, invoice).reason)
        assert [line.step for line in history(world, invoice)] == ["quote"]
        assert executions(world) == []

        world.restart()
        drain(world)
        assert len(payouts(world)) == 1


class TestLimits:
    def test_with_refunds_off_each_waits_for_a_person_and_nothing_is_asked(self, make_world: MakeWorld) -> None:
        world = make_world(refunds_enabled=False)
        invoice = owe(world)

        assert send(world) == {RefundState.HELD: 1}
        refund = refund_of(world, invoice)
        assert refund.reason == "REFUNDS_ENABLED is off: needs your approval"
        assert (refund.claimed_until, refund.held_because) == (None, HoldCause.REFUNDS_OFF)
        assert [(line.step, line.outcome) for line in history(world, invoice)] == [("hold", refund.reason)]
        assert world.calls(POST_QUOTE) == []
        world.wait(7 * 86_400)
        assert send(world) == {}

    def test_a_held_refund_is_sent_when_a_person_approves_it(self, make_world: MakeWorld) -> None:
        world = make_world(refunds_enabled=False, refund_max_sats=1, refund_daily_max_sats=1)
        invoice = owe(world)
        send(world)

        approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())

        assert send(world) == {RefundState.SENT: 1}
        assert len(payouts(world)) == 1

    @pytest.mark.parametrize(("most", "is_sent"), [(19_207, True), (19_206, False)])
    def test_what_is_above_the_limit_of_one_refund_is_held(
        self, make_world: MakeWorld, most: int, is_sent: bool
    ) -> None:
        world = make_world(refund_max_sats=most)
        invoice = owe(world)

        assert send(world) == {RefundState.SENT if is_sent else RefundState.HELD: 1}
        if not is_sent:
            reason = "19,207 sats exceeds REFUND_MAX_SATS: needs your approval"
            refund = refund_of(world, invoice)
            assert (refund.held_because, refund.reason) == (HoldCause.MAX_SATS, reason)

    @pytest.mark.parametrize(("most", "is_sent"), [(19_207 + 21, True), (19_207 + 20, False)])
    def test_the_days_limit_counts_the_fee_of_this_one(self, make_world: MakeWorld, most: int, is_sent: bool) -> None:
        world = make_world(refund_daily_max_sats=most)
        owe(world)

        assert send(world) == {RefundState.SENT if is_sent else RefundState.HELD: 1}

    @pytest.mark.parametrize(("most", "is_sent"), [(2 * (19_207 + 21), True), (2 * (19_207 + 21) - 1, False)])
    def test_the_days_limit_counts_the_fees_of_those_before(
        self, make_world: MakeWorld, most: int, is_sent: bool
    ) -> None:
        world = make_world(refund_daily_max_sats=most)
        owe(world)
        send(world)
        owe(world)

        assert send(world) == {RefundState.SENT if is_sent else RefundState.HELD: 1}

    def test_the_days_limit_holds_the_first_that_does_not_fit(self, make_world: MakeWorld) -> None:
        world = make_world(refund_daily_max_sats=2 * (19_207 + 21))
        invoices = [owe(world) for _ in range(3)]

        assert send(world) == {RefundState.SENT: 2, RefundState.HELD: 1}
        held = refund_of(world, invoices[2])
        assert held.reason == "REFUND_DAILY_MAX_SATS is reached: needs your approval"
        assert held.held_because is HoldCause.DAILY_MAX_SATS
        assert executions(world) == ["COMPLETED"] * 2

    @pytest.mark.parametrize(("hours", "is_sent"), [(24, False), (24.01, True)])
    def test_the_day_is_the_last_24_hours(self, make_world: MakeWorld, hours: float, is_sent: bool) -> None:
        world = make_world(refund_daily_max_sats=19_207 + 21)
        owe(world)
        send(world)
        world.wait(hours * 3600 - 180)
        owe(world)

        assert send(world) == {RefundState.SENT if is_sent else RefundState.HELD: 1}

    def test_what_may_have_been_sent_counts_for_the_day(self, make_world: MakeWorld) -> None:
        world = make_world(refund_daily_max_sats=19_207 + 21)
        owe(world, "pending@example.com")
        owe(world)

        assert send(world) == {RefundState.IN_FLIGHT: 1, RefundState.HELD: 1}

    def test_what_failed_does_not_count_for_the_day(self, make_world: MakeWorld) -> None:
        world = make_world(refund_daily_max_sats=19_207 + 21)
        owe(world, "fail@example.com")
        owe(world)

        assert send(world) == {RefundState.FAILED: 1, RefundState.SENT: 1}

    def test_the_limit_of_one_refund_also_holds_where_the_day_has_room(self, make_world: MakeWorld) -> None:
        world = make_world(refund_daily_max_sats=10**9)
        invoice = owe(world)
        before_call(world, POST_QUOTE, partial(change_rules, world, max_sats=1))

        send(world)

        assert refund_of(world, invoice).state is RefundState.HELD

    def test_what_a_lost_history_may_have_sent_is_held_and_nothing_is_asked(self, world: World) -> None:
        invoice = owe(world)
        with world.backend.repository.transaction() as tx:
            tx.restores.add(world.backend.clock(), HoldCause.RESTORED, None)

        assert send(world) == {RefundState.HELD: 1}
        assert "the database was restored from a backup" in str(refund_of(world, invoice).reason)
        assert world.calls(POST_QUOTE) == []

    def test_an_approval_outlives_a_failure(self, make_world: MakeWorld) -> None:
        world = make_world(refunds_enabled=False)
        invoice = owe(world, "fail@example.com")
        send(world)
        approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
        send(world)
        world.simulator.config.payout_behaviours = {"*": "complete"}

        drain(world)

        assert refund_of(world, invoice).state is RefundState.SENT


class TestSmallOnes:
    @pytest.mark.parametrize(("sats", "is_sent"), [(100, True), (99, False)])
    def test_below_the_setting_it_waits_to_be_asked_for(self, make_world: MakeWorld, sats: int, is_sent: bool) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = owe(world)
        shrink(world, sats)

        assert send(world) == {RefundState.SENT if is_sent else RefundState.NEEDS_ADDRESS: 1}
        if not is_sent:
            assert world.calls(POST_QUOTE) == []
            assert told_of(world, invoice) == ["refund.needs_address"]
            assert str(refund_of(world, invoice).reason).startswith("99 sats is below REFUND_MIN_SATS: ")
            world.wait(7 * 86_400)
            assert send(world) == {}

    @pytest.mark.parametrize("who", ["customer", "operator"])
    def test_it_is_sent_when_it_is_asked_for(self, world: World, who: str) -> None:
        invoice = owe(world)
        shrink(world, 99)
        send(world)
        repository, now = world.backend.repository, world.backend.clock()

        if who == "customer":
            give_address(repository, refund_of(world, invoice).token, "bob@example.com", now)
        else:
            change_address(repository, invoice.strike_invoice_id, ADDRESS, now)

        assert refund_of(world, invoice).wanted_at == now
        assert send(world) == {RefundState.SENT: 1}
        assert payouts(world)[0].sats == 99

    def test_twenty_small_refunds_cost_nothing_until_requested(self, make_world: MakeWorld) -> None:
        world = make_world(config=SimulatorConfig(payout_fee_base_sats=10, payout_fee_ppm=0))
        for _ in range(20):
            owe(world)
        shrink(world, 16)

        drain(world)

        assert payouts(world) == []


class TestTheAddress:
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (422, "UNPROCESSABLE_ENTITY"),
            (400, "INVALID_DATA"),
            (404, "NOT_FOUND"),
            (422, "INVALID_RECIPIENT"),
            (422, "INVALID_LN_INVOICE"),
            (422, "UNSUPPORTED_PAYMENT_METHOD"),
            (422, "SELF_PAYMENT_NOT_ALLOWED"),
        ],
    )
    def test_one_that_is_refused_waits_for_another(self, make_world: MakeWorld, status: int, code: str) -> None:
        config = SimulatorConfig(unknown_address_status=status, unknown_address_code=code)
        world = make_world(config=config, delivery_events=ALL_EVENTS)
        invoice = owe(world, "unknown@example.com")

        assert send(world) == {RefundState.NEEDS_ADDRESS: 1}
        refund = refund_of(world, invoice)
        assert refund.reason == "Strike refuses the customer's address: another one is needed"
        assert (refund.claimed_until, refund.address) == (None, "unknown@example.com")
        (line,) = history(world, invoice)
        assert (line.step, line.strike_code, bool(line.trace_id)) == ("quote", code, True)
        assert told_of(world, invoice) == ["refund.needs_address"]

    @pytest.mark.parametrize(("address", "word"), [("min500000@example.com", "small"), ("max5@example.com", "large")])
    def test_one_that_does_not_take_the_amount_waits_for_another(self, world: World, address: str, word: str) -> None:
        invoice = owe(world, address)

        assert send(world) == {RefundState.NEEDS_ADDRESS: 1}
        reason = f"the customer's wallet does not accept so {word} an amount: another address is needed"
        assert refund_of(world, invoice).reason == reason

    def test_the_customer_gives_another_and_is_paid(self, make_world: MakeWorld) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = owe(world, "unknown@example.com")
        send(world)
        before = refund_of(world, invoice)

        given = give_address(world.backend.repository, before.token, "Bob@Example.com", world.backend.clock())

        assert (given.state, given.address, given.reason) == (RefundState.REQUESTED, "bob@example.com", None)
        assert given.idempotency_key == before.idempotency_key  # no quote was made under it
        assert send(world) == {RefundState.SENT: 1}
        assert [entry.destination for entry in payouts(world)] == ["bob@example.com"]
        assert told_of(world, invoice) == ["refund.needs_address", "refund.sent"]

    def test_the_shop_is_notified_once_that_an_address_is_needed(self, make_world: MakeWorld) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = owe(world, None)
        assert told_of(world, invoice) == ["refund.needs_address"]
        token = refund_of(world, invoice).token
        give_address(world.backend.repository, token, "unknown@example.com", world.backend.clock())

        assert send(world) == {RefundState.NEEDS_ADDRESS: 1}
        assert told_of(world, invoice) == ["refund.needs_address"]
