"""A payment that fails is tried again; one that never arrived at Strike is made once."""

from __future__ import annotations

import pytest

from lnpay.domain.states import RefundState
from lnpay.refunds.outcomes import PAUSES, STUCK
from lnpay.refunds.send import (
    MAX_CONSECUTIVE_FAILURES,
)
from lnpay.sandbox.config import SimulatorConfig
from tests.integration.refunds.refund_steps import (
    PATCH,
    POST_QUOTE,
    VALID_SECONDS,
    MakeWorld,
    before_call,
    crash,
    later,
)
from tests.owing import (
    EXECUTE,
    PAYMENT,
    QUOTE,
    Crash,
    drain,
    executions,
    history,
    owe,
    payouts,
    refund_of,
    send,
)
from tests.world import World


class TestFailure:
    def test_a_payment_that_fails_at_once_is_tried_again_with_growing_pauses(self, world: World) -> None:
        invoice = owe(world, "fail@example.com")
        pauses, keys = [], set()
        for _ in range(len(PAUSES) + 1):
            assert send(world) == {RefundState.FAILED: 1}
            pauses.append(later(world, invoice))
            keys.add(refund_of(world, invoice).idempotency_key)
            world.wait(pauses[-1])
        world.simulator.config.payout_behaviours = {"*": "complete"}

        assert send(world) == {RefundState.SENT: 1}
        assert pauses == [5, 10, 30, 60, 300, 900, 1800, 3600, 3600]
        assert len(keys) == len(pauses)
        assert len(payouts(world)) == 1

    def test_a_new_attempt_resets_the_count_of_checks(self, world: World) -> None:
        invoice = owe(world, "pendingfail5@example.com")
        send(world)
        world.wait(5)
        send(world)
        world.simulator.config.payout_behaviours = {"*": "pending"}
        world.wait(5)

        send(world)

        assert (refund_of(world, invoice).looks, later(world, invoice)) == (1, 5)

    def test_a_low_balance_is_reported_and_resolves_itself(self, make_world: MakeWorld) -> None:
        world = make_world(config=SimulatorConfig(start_balance_sats=0))
        invoice = owe(world)

        assert send(world) == {RefundState.FAILED: 1}
        refund = refund_of(world, invoice)
        assert refund.reason == "the balance at Strike is too low: add bitcoin to the account"
        (line,) = history(world, invoice)
        assert (line.step, line.strike_code) == ("execute", "BALANCE_TOO_LOW")
        assert line.trace_id
        assert line.payment_quote_id == refund.payment_quote_id is not None

        world.simulator.balances.available["BTC"] += 1_000
        drain(world)
        assert len(payouts(world)) == 1

    def test_a_route_that_is_missing_is_looked_for_again(self, world: World) -> None:
        invoice = owe(world)
        world.simulator.config.payout_behaviours = {"*": "noroute"}

        assert send(world) == {RefundState.FAILED: 1}
        assert "no route to the customer's wallet" in str(refund_of(world, invoice).reason)

        world.simulator.config.payout_behaviours = {}
        drain(world)
        assert executions(world) == ["LN_ROUTE_NOT_FOUND", "COMPLETED"]
        assert len(payouts(world)) == 1

    @pytest.mark.parametrize(("path", "method"), [(QUOTE, "POST"), (EXECUTE, "PATCH")])
    @pytest.mark.parametrize(
        ("status", "code", "words"),
        [
            (401, "UNAUTHORIZED", "rejects STRIKE_API_KEY"),
            (403, "FORBIDDEN", "lacks a scope"),
            (422, "TOO_MANY_TRANSACTIONS", "Strike answered 422 TOO_MANY_TRANSACTIONS"),
        ],
    )
    def test_a_refusal_that_is_about_us_is_said_and_tried_again(
        self, world: World, method: str, path: str, status: int, code: str, words: str
    ) -> None:
        invoice = owe(world)
        world.fault(method, path, "error", status=status, code=code)

        assert send(world) == {RefundState.FAILED: 1}
        assert words in str(refund_of(world, invoice).reason)
        (line,) = history(world, invoice)
        assert (line.step, line.strike_code) == ("quote" if method == "POST" else "execute", code)

        drain(world)
        assert len(payouts(world)) == 1


class TestTheExecutionNeverArrived:
    @pytest.mark.parametrize("kind", ["unreachable", "rate_limited"])
    def test_that_ends_the_doubt(self, world: World, kind: str) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, kind)

        assert send(world) == {"unanswered": 1}

        refund = refund_of(world, invoice)
        assert (refund.state, refund.is_in_doubt, refund.claimed_until) == (RefundState.IN_FLIGHT, False, None)
        assert [line.step for line in history(world, invoice)] == ["execute"]

    def test_then_an_expired_quote_is_replaced_under_a_new_key(self, world: World) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "unreachable")
        send(world)
        first = refund_of(world, invoice)
        world.wait(VALID_SECONDS)

        assert send(world) == {RefundState.FAILED: 1}

        drain(world)
        after = refund_of(world, invoice)
        assert after.state is RefundState.SENT
        assert after.idempotency_key != first.idempotency_key
        assert executions(world) == ["PAYMENT_QUOTE_EXPIRED", "COMPLETED"]

    def test_then_a_valid_quote_is_executed(self, world: World) -> None:
        owe(world)
        world.fault("PATCH", EXECUTE, "unreachable")

        drain(world)

        assert executions(world) == ["COMPLETED"]
        assert len(world.simulator.payments.quotes) == 1

    @pytest.mark.parametrize(
        ("status", "code", "count"),
        [(409, "PROCESSING_CONFLICT", "unanswered"), (422, "PROCESSING_PAYMENT", RefundState.IN_FLIGHT)],
    )
    def test_an_answer_that_strike_is_processing_it_does_not_end_the_doubt(
        self, world: World, status: int, code: str, count: str
    ) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "error", status=status, code=code)

        assert send(world) == {count: 1}

        refund, (line,) = refund_of(world, invoice), history(world, invoice)
        assert (refund.is_in_doubt, refund.claimed_until, later(world, invoice)) == (True, None, 5)
        assert line.outcome == refund.reason == f"Strike answered {status} {code}"
        assert (line.step, line.strike_code, bool(line.trace_id)) == ("execute", code, True)
        drain(world)
        assert len(payouts(world)) == len(world.simulator.payments.quotes) == 1

    def test_a_crash_during_the_next_execution_leaves_it_in_doubt(self, world: World) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "unreachable")
        send(world)
        world.wait(5)
        before_call(world, PATCH, crash)

        with pytest.raises(Crash):
            send(world)

        assert refund_of(world, invoice).is_in_doubt
        world.wait(VALID_SECONDS)
        drain(world)
        assert refund_of(world, invoice).reason == STUCK
        assert len(world.simulator.payments.quotes) == 1


class TestStrikeAsksToWait:
    def test_a_429_ends_the_pass_and_is_honoured_by_the_next(self, world: World) -> None:
        first, second = owe(world), owe(world)
        world.fault("POST", QUOTE, "rate_limited", seconds=90)

        assert send(world) == {"unanswered": 1}
        assert (later(world, first), refund_of(world, first).looks) == (90, 0)
        assert history(world, second) == []
        assert send(world) == {"unanswered": 1}
        assert len(world.calls(POST_QUOTE)) == 1

        world.wait(90)
        assert send(world) == {RefundState.SENT: 2}

    def test_an_hours_lock_out_of_looking_is_waited_for(self, world: World) -> None:
        invoice = owe(world, "pending60@example.com")
        send(world)
        world.fault("GET", PAYMENT, "rate_limited", seconds=3600)
        world.wait(61)

        assert send(world) == {"unanswered": 1}
        assert later(world, invoice) == 3600
        assert refund_of(world, invoice).looks == 1

        world.wait(3600)
        assert send(world) == {RefundState.SENT: 1}

    def test_a_429_to_the_execution_moves_no_money_and_ends_the_pass(self, world: World) -> None:
        first, second = owe(world), owe(world)
        world.fault("PATCH", EXECUTE, "rate_limited", seconds=70)

        assert send(world) == {"unanswered": 1}
        assert (later(world, first), refund_of(world, first).state) == (70, RefundState.IN_FLIGHT)
        assert refund_of(world, second).state is RefundState.REQUESTED

        drain(world)
        assert len(payouts(world)) == 2

    def test_a_pass_stops_after_several_refunds_without_an_answer(self, world: World) -> None:
        for _ in range(MAX_CONSECUTIVE_FAILURES + 2):
            owe(world)
        world.fault("POST", QUOTE, "unreachable", times=None)

        assert send(world) == {"unanswered": MAX_CONSECUTIVE_FAILURES}
        assert len(world.calls(POST_QUOTE)) == MAX_CONSECUTIVE_FAILURES

    def test_an_answer_in_between_starts_that_count_over(self, world: World) -> None:
        for _ in range(2 * MAX_CONSECUTIVE_FAILURES):
            owe(world)
        world.fault("POST", QUOTE, "unreachable", times=MAX_CONSECUTIVE_FAILURES - 1)
        world.fault("POST", QUOTE, "unreachable", times=MAX_CONSECUTIVE_FAILURES - 1, skip=1)

        assert send(world) == {"unanswered": 2 * (MAX_CONSECUTIVE_FAILURES - 1), RefundState.SENT: 2}

    def test_the_pauses_start_over_once_it_is_sent(self, world: World) -> None:
        """However long its price could not be had: what Strike says of a payment is worth asking for soon."""
        invoice = owe(world)
        world.fault("POST", QUOTE, "unreachable", times=2)
        for _ in range(2):
            send(world)
            world.wait(60)
        assert refund_of(world, invoice).looks == 2
        assert [line.step for line in history(world, invoice)] == ["quote", "quote"]
        world.fault("PATCH", EXECUTE, "lost_answer", times=None)

        send(world)

        assert (refund_of(world, invoice).state, refund_of(world, invoice).looks) == (RefundState.IN_FLIGHT, 1)
