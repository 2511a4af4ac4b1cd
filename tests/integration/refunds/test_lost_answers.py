"""An answer of Strike that is lost never leads to a second payment."""

from __future__ import annotations

from typing import Any

import pytest

from lnpay.domain.errors import StrikeRejected
from lnpay.domain.states import Closer, RefundState
from lnpay.monitoring.overview import attention
from lnpay.refunds.by_hand import (
    BY_HAND_AFTER,
)
from lnpay.refunds.outcomes import STUCK
from lnpay.refunds.send import (
    EXECUTIONS_AT_ONCE,
)
from lnpay.runtime.worker_passes import refund_pass
from lnpay.sandbox.config import SimulatorConfig
from lnpay.strike.answers import Payment
from tests.integration.refunds.refund_steps import VALID_SECONDS, MakeWorld, later
from tests.owing import (
    EXECUTE,
    PAYMENT,
    QUOTE,
    drain,
    executions,
    history,
    owe,
    payouts,
    refund_of,
    send,
)
from tests.world import World

LOST = ("lost_answer", "timeout_after", "error_after", "garbage", "truncated")
"""The ways in which an answer is lost after the thing was done."""


def name_the_payment(world: World) -> None:
    """Have PAYMENT_PROCESSED name the payment also where it failed."""
    execute = world.backend.strike.execute_payment_quote

    def named(quote_id: str) -> Payment:
        try:
            return execute(quote_id)
        except StrikeRejected as error:
            error.values["paymentId"] = next(iter(world.simulator.payments.payments))
            raise

    setattr(world.backend.strike, "execute_payment_quote", named)  # noqa: B010


class TestTheQuoteIsNotAnswered:
    @pytest.mark.parametrize("kind", LOST)
    def test_where_quotes_can_be_read_the_key_leads_back_to_the_first(self, make_world: MakeWorld, kind: str) -> None:
        world = make_world(config=SimulatorConfig(has_payment_quote_read=True))
        invoice = owe(world)
        key = refund_of(world, invoice).idempotency_key
        world.fault("POST", QUOTE, kind)

        assert send(world) == {"unanswered": 1}
        assert (refund_of(world, invoice).state, later(world, invoice)) == (RefundState.REQUESTED, 5)

        drain(world)
        (entry,) = payouts(world)
        assert entry.idempotency_key == key == refund_of(world, invoice).idempotency_key
        assert len(world.simulator.payments.quotes) == 1

    @pytest.mark.parametrize("kind", LOST)
    def test_where_they_cannot_a_new_key_is_safe(self, world: World, kind: str) -> None:
        invoice = owe(world)
        key = refund_of(world, invoice).idempotency_key
        world.fault("POST", QUOTE, kind)
        send(world)
        world.wait(5)

        assert send(world) == {RefundState.FAILED: 1}
        failed = refund_of(world, invoice)
        assert failed.reason == "the answer to the first quote was lost; a new quote is requested"
        last = history(world, invoice)[-1]
        assert (last.step, last.strike_code) == ("quote", "DUPLICATE_PAYMENT_QUOTE")

        drain(world)
        (entry,) = payouts(world)
        assert entry.idempotency_key == refund_of(world, invoice).idempotency_key != key

    @pytest.mark.parametrize("has_read", [True, False])
    def test_where_the_first_quote_is_not_named_a_new_key_is_safe(self, make_world: MakeWorld, has_read: bool) -> None:
        world = make_world(config=SimulatorConfig(has_payment_quote_read=has_read))
        owe(world)
        world.fault("POST", QUOTE, "lost_answer")
        world.fault("POST", QUOTE, "field_missing", field="data.values")

        drain(world)

        assert world.calls("GET /v1/payment-quotes/") == []
        assert len(payouts(world)) == 1
        assert len(world.simulator.payments.quotes) == 2

    def test_a_first_quote_that_is_too_old_by_then_is_replaced(self, make_world: MakeWorld) -> None:
        world = make_world(config=SimulatorConfig(has_payment_quote_read=True))
        invoice = owe(world)
        world.fault("POST", QUOTE, "lost_answer")
        send(world)
        world.wait(VALID_SECONDS)

        assert send(world) == {RefundState.FAILED: 1}
        assert refund_of(world, invoice).reason == "the quote expired before it was used; a new one is requested"

        drain(world)
        assert executions(world) == ["PAYMENT_QUOTE_EXPIRED", "COMPLETED"]

    def test_while_strike_cannot_be_reached_the_key_stays(self, world: World) -> None:
        invoice = owe(world)
        key = refund_of(world, invoice).idempotency_key
        world.fault("POST", QUOTE, "unreachable", times=3)

        drain(world)

        (entry,) = payouts(world)
        assert entry.idempotency_key == key
        assert [line.outcome for line in history(world, invoice)] == ["Strike could not be reached"] * 3 + ["sent"]

    def test_the_pauses_grow_while_nothing_answers(self, world: World) -> None:
        invoice = owe(world)
        world.fault("POST", QUOTE, "unreachable", times=None)
        pauses = []
        for _ in range(3):
            send(world)
            pauses.append(later(world, invoice))
            world.wait(pauses[-1])

        assert pauses == [5, 10, 30]


class TestTheExecutionIsNotAnswered:
    @pytest.mark.parametrize(
        ("kind", "times"), [(kind, times) for kind in LOST for times in (1, 2) if (kind, times) != ("truncated", 2)]
    )
    def test_the_same_quote_is_asked_again_at_once(self, world: World, kind: str, times: int) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, kind, times=times)

        assert send(world) == {RefundState.SENT: 1}

        (entry,) = payouts(world)
        assert executions(world) == ["COMPLETED"] + ["PAYMENT_PROCESSED"] * times
        assert refund_of(world, invoice).payment_quote_id == entry.quote_id
        assert [line.step for line in history(world, invoice)] == ["execute"]
        assert len(world.simulator.payments.quotes) == 1

    def test_a_refusal_that_cannot_be_read_after_a_lost_answer_ends_nothing(self, world: World) -> None:
        """The second answer is PAYMENT_PROCESSED, cut off in the middle."""
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "truncated", times=2)

        assert send(world) == {RefundState.IN_FLIGHT: 1}
        assert refund_of(world, invoice).is_in_doubt

        drain(world)
        assert executions(world) == ["COMPLETED", "PAYMENT_PROCESSED", "PAYMENT_PROCESSED"]
        assert refund_of(world, invoice).state is RefundState.SENT

    def test_a_refusal_without_a_code_leaves_the_doubt(self, world: World) -> None:
        """It may be PAYMENT_PROCESSED, cut off in the middle: only the same quote may be asked again."""
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "error", status=422, code="")

        assert send(world) == {RefundState.IN_FLIGHT: 1}
        assert refund_of(world, invoice).is_in_doubt

        drain(world)
        assert executions(world) == ["COMPLETED"]
        assert len(world.simulator.payments.quotes) == 1

    @pytest.mark.parametrize("fault", [{"kind": "html403"}, {"kind": "error", "status": 401, "code": ""}])
    def test_a_401_or_403_leaves_no_doubt(self, world: World, fault: dict[str, Any]) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, **fault)

        assert send(world) == {RefundState.FAILED: 1}
        assert refund_of(world, invoice).reason

    @pytest.mark.parametrize("kind", [kind for kind in LOST if kind != "truncated"])
    def test_after_three_lost_answers_it_waits_and_asks_the_same_quote_again(self, world: World, kind: str) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, kind, times=EXECUTIONS_AT_ONCE)

        assert send(world) == {"unanswered": 1}
        waiting = refund_of(world, invoice)
        assert (waiting.state, waiting.is_in_doubt, waiting.claimed_until) == (RefundState.IN_FLIGHT, True, None)
        assert later(world, invoice) == 5
        assert [line.step for line in history(world, invoice)] == ["execute"]

        drain(world)
        assert refund_of(world, invoice).state is RefundState.SENT
        assert executions(world) == ["COMPLETED"] + ["PAYMENT_PROCESSED"] * EXECUTIONS_AT_ONCE
        assert len(payouts(world)) == 1

    def test_a_request_that_was_swallowed_is_sent_by_the_next_execution(self, world: World) -> None:
        owe(world)
        world.fault("PATCH", EXECUTE, "lost_request")

        assert send(world) == {RefundState.SENT: 1}
        assert executions(world) == ["COMPLETED"]

    def test_swallowed_for_longer_than_the_quote_lives_it_is_never_sent_again(self, world: World) -> None:
        """Nothing was sent, but LNPay cannot know that."""
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_request", times=6)

        drain(world)

        refund = refund_of(world, invoice)
        assert (refund.state, refund.reason) == (RefundState.IN_FLIGHT, STUCK)
        assert set(executions(world)) == {"PAYMENT_QUOTE_EXPIRED"}
        assert len(world.simulator.payments.quotes) == 1
        assert payouts(world) == []
        assert refund_pass(world.backend).trouble is not None

    @pytest.mark.parametrize("kind", ["unreachable", "lost_answer", "error", "html403"])
    def test_what_strike_cannot_settle_stays_known_as_that_while_strike_is_away(self, world: World, kind: str) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_request", times=6)
        drain(world, hours=0.05)
        stuck_at = refund_of(world, invoice).stuck_at
        world.fault("PATCH", EXECUTE, kind, times=99)

        drain(world, hours=0.5)

        refund = refund_of(world, invoice)
        now = world.backend.clock()
        assert stuck_at is not None
        assert refund.started_at is not None
        assert now - refund.started_at < BY_HAND_AFTER
        assert history(world, invoice)[-1].outcome != STUCK
        assert (refund.state, refund.stuck_at, refund.reason) == (RefundState.IN_FLIGHT, stuck_at, STUCK)
        assert "1 unclear refunds" in str(refund_pass(world.backend).trouble)
        assert [one.refund.id for one in attention(world.backend.repository, now).unclear] == [refund.id]

    @pytest.mark.parametrize("again", ["with_id", "without_id", "payment"])
    def test_evidence_ends_that_it_is_stuck(self, make_world: MakeWorld, again: str) -> None:
        world = make_world(config=SimulatorConfig(execute_again_done=again, is_quote_expiry_checked_first=True))
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_answer", times=EXECUTIONS_AT_ONCE)
        send(world)
        world.wait(VALID_SECONDS)
        send(world)
        assert refund_of(world, invoice).stuck_at is not None
        world.simulator.config.is_quote_expiry_checked_first = False

        drain(world)

        refund = refund_of(world, invoice)
        closer = Closer.INFERRED if again == "without_id" else Closer.STRIKE
        assert (refund.state, refund.stuck_at, refund.closed_by) == (RefundState.SENT, None, closer)

    @pytest.mark.parametrize("again", ["with_id", "without_id", "payment"])
    @pytest.mark.parametrize("is_expiry_first", [False, True])
    @pytest.mark.parametrize("is_quick", [True, False])
    def test_an_answer_lost_about_a_payment_that_arrived(
        self, make_world: MakeWorld, again: str, is_expiry_first: bool, is_quick: bool
    ) -> None:
        config = SimulatorConfig(execute_again_done=again, is_quote_expiry_checked_first=is_expiry_first)
        world = make_world(config=config)
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_answer", times=EXECUTIONS_AT_ONCE)
        send(world)
        world.wait(5 if is_quick else VALID_SECONDS)

        drain(world)

        refund = refund_of(world, invoice)
        is_known = is_quick or not is_expiry_first
        assert (refund.state, refund.reason) == (
            (RefundState.SENT, None) if is_known else (RefundState.IN_FLIGHT, STUCK)
        )
        assert refund.payment_id == (payouts(world)[0].payment_id if is_known and again != "without_id" else None)
        assert len(payouts(world)) == len(world.simulator.payments.quotes) == 1

    @pytest.mark.parametrize("again", ["PROCESSING_PAYMENT", "PROCESSING_CONFLICT", "payment"])
    @pytest.mark.parametrize("done", ["with_id", "without_id", "payment"])
    @pytest.mark.parametrize("end", ["pending40", "pending900"])
    def test_an_answer_lost_about_a_payment_that_is_pending(
        self, make_world: MakeWorld, again: str, done: str, end: str
    ) -> None:
        world = make_world(config=SimulatorConfig(execute_again_pending=again, execute_again_done=done))
        invoice = owe(world, f"{end}@example.com")
        world.fault("PATCH", EXECUTE, "lost_answer")

        send(world)
        on_its_way = refund_of(world, invoice)
        drain(world)

        assert (on_its_way.state, on_its_way.is_in_doubt) == (RefundState.IN_FLIGHT, True)
        assert refund_of(world, invoice).state is RefundState.SENT
        assert len(payouts(world)) == len(world.simulator.payments.quotes) == 1

    @pytest.mark.parametrize("again", ["PROCESSING_PAYMENT", "PROCESSING_CONFLICT", "payment"])
    def test_pending_beyond_the_quotes_life_where_age_is_looked_at_first(
        self, make_world: MakeWorld, again: str
    ) -> None:
        config = SimulatorConfig(execute_again_pending=again, is_quote_expiry_checked_first=True)
        world = make_world(config=config)
        invoice = owe(world, "pending900@example.com")
        world.fault("PATCH", EXECUTE, "lost_answer")

        drain(world)

        refund = refund_of(world, invoice)
        assert (refund.state, refund.reason) == (
            (RefundState.SENT, None) if again == "payment" else (RefundState.IN_FLIGHT, STUCK)
        )
        assert len(payouts(world)) == len(world.simulator.payments.quotes) == 1

    @pytest.mark.parametrize("is_expiry_first", [False, True])
    @pytest.mark.parametrize("again", ["payment", "PAYMENT_PROCESSED", "PAYMENT_QUOTE_EXPIRED"])
    def test_an_answer_lost_about_a_payment_that_failed(
        self, make_world: MakeWorld, again: str, is_expiry_first: bool
    ) -> None:
        """Only a FAILED that Strike shows allows a new key; the other answers cannot be told from success."""
        config = SimulatorConfig(
            execute_again_failed=again, is_quote_expiry_checked_first=is_expiry_first, execute_again_done="without_id"
        )
        world = make_world(config=config)
        invoice = owe(world, "fail@example.com")
        world.fault("PATCH", EXECUTE, "lost_answer")

        send(world)
        after = refund_of(world, invoice)
        world.simulator.config.payout_behaviours = {"*": "complete"}
        drain(world)

        states = {
            "payment": RefundState.FAILED,
            "PAYMENT_PROCESSED": RefundState.SENT,
            "PAYMENT_QUOTE_EXPIRED": RefundState.IN_FLIGHT,
        }
        assert after.state is states[again]
        assert len(payouts(world)) == (again == "payment")

    def test_a_payment_that_strike_names_decides_by_its_own_state(self, world: World) -> None:
        """PAYMENT_PROCESSED names a payment that has failed since."""
        invoice = owe(world, "fail@example.com")
        world.simulator.config.execute_again_failed = "PAYMENT_PROCESSED"
        world.fault("PATCH", EXECUTE, "lost_answer")
        name_the_payment(world)

        assert send(world) == {RefundState.FAILED: 1}

        refund = refund_of(world, invoice)
        assert refund.payment_id in world.simulator.payments.payments
        (line,) = history(world, invoice)
        assert (line.step, line.payment_id) == ("execute", refund.payment_id)

    def test_a_payment_that_strike_names_and_cannot_show_is_looked_at_later(self, make_world: MakeWorld) -> None:
        world = make_world(config=SimulatorConfig(execute_again_done="with_id"))
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_answer")
        world.fault("GET", PAYMENT, "unreachable")

        assert send(world) == {"unanswered": 1}
        waiting = refund_of(world, invoice)
        assert (waiting.state, waiting.payment_id) == (
            RefundState.IN_FLIGHT,
            next(iter(world.simulator.payments.payments)),
        )

        assert [line.step for line in history(world, invoice)] == ["look"]

        world.wait(5)
        assert send(world) == {RefundState.SENT: 1}
        assert executions(world) == ["COMPLETED", "PAYMENT_PROCESSED"]

    def test_an_emptied_balance_after_a_lost_answer_says_nothing_about_the_first(self, world: World) -> None:
        """The first execution may be what has emptied it."""
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_answer")
        world.fault("PATCH", EXECUTE, "error", status=422, code="BALANCE_TOO_LOW")

        assert send(world) == {RefundState.IN_FLIGHT: 1}
        refund = refund_of(world, invoice)
        assert refund.reason == "the balance at Strike is too low: add bitcoin to the account"
        assert refund.is_in_doubt
        assert [(line.step, line.strike_code) for line in history(world, invoice)] == [("execute", "BALANCE_TOO_LOW")]

        drain(world)
        assert len(payouts(world)) == len(world.simulator.payments.quotes) == 1

    def test_a_later_execution_that_does_not_arrive_does_not_end_the_doubt(self, world: World) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_answer")
        world.fault("PATCH", EXECUTE, "unreachable")

        send(world)

        assert refund_of(world, invoice).is_in_doubt
        drain(world)
        assert len(payouts(world)) == len(world.simulator.payments.quotes) == 1
