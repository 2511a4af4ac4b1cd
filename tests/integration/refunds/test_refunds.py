"""Refunds are sent at most once for every answer of Strike and every crash. The provider's ledger is the proof."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from lnpay.domain.errors import StrikeRejected, StrikeUnavailable
from lnpay.domain.model import Invoice
from lnpay.domain.states import Closer, HoldCause, RefundState
from lnpay.monitoring.overview import attention
from lnpay.refunds.by_hand import (
    BY_HAND_AFTER,
    approve,
    change_address,
    give_address,
    retry,
    settle_by_hand,
)
from lnpay.refunds.outcomes import PAUSES, STUCK
from lnpay.refunds.send import (
    CLAIM,
    EXECUTIONS_AT_ONCE,
    MAX_CONSECUTIVE_FAILURES,
    STARTING,
    WAITING,
    reconcile_payment,
    send_due_refunds,
)
from lnpay.repository import Transaction
from lnpay.runtime.worker_passes import refund_pass
from lnpay.sandbox.config import SimulatorConfig
from lnpay.strike.answers import Payment, PaymentStatus
from lnpay.strike.client import WEBHOOK_TIMEOUT
from tests.owing import (
    ADDRESS,
    EXECUTE,
    PAYMENT,
    QUOTE,
    Crash,
    Moments,
    drain,
    executions,
    history,
    owe,
    payouts,
    refund_of,
    send,
    twin,
)
from tests.world import ALL_EVENTS, World

MakeWorld = Callable[..., World]

LOST = ("lost_answer", "timeout_after", "error_after", "garbage", "truncated")
"""The ways in which an answer is lost after the thing was done."""

POST_QUOTE = f"POST {QUOTE}"
PATCH = "PATCH /v1/payment-quotes/"
CLAIM_SECONDS = CLAIM.total_seconds()
VALID_SECONDS = 60
"""How long the simulator's payment quotes are valid."""


def later(world: World, invoice: Invoice) -> float:
    """Seconds until the refund is due again."""
    return (refund_of(world, invoice).next_attempt_at - world.backend.clock()).total_seconds()


def told_of(world: World, invoice: Invoice) -> list[str]:
    """Which events the shop is owed about an invoice, beside that it was paid late."""
    return [one.event_type for one in world.deliveries(invoice) if one.event_type != "invoice.paid_late"]


def change_quotes(world: World, change: Callable[[Any], Any]) -> None:
    """Have every new payment quote arrive as `change` makes it."""
    create = world.backend.strike.create_payment_quote
    setattr(  # noqa: B010 - mypy knows it as a method
        world.backend.strike, "create_payment_quote", lambda *arguments: change(create(*arguments))
    )


def before_call(world: World, start: str, act: Callable[[], object]) -> None:
    """Do `act` once, just before the next call that begins with `start` is made."""
    plain = world.adapter.send

    def interrupted(request: Any, *arguments: Any, **options: Any) -> Any:
        if f"{request.method} {request.path_url}".startswith(start):
            setattr(world.adapter, "send", plain)  # noqa: B010
            act()
        return plain(request, *arguments, **options)

    setattr(world.adapter, "send", interrupted)  # noqa: B010


class TestSending:
    def test_what_was_received_is_refunded_to_the_invoices_address(self, world: World) -> None:
        invoice = owe(world)

        assert send(world) == {RefundState.SENT: 1}

        (entry,) = payouts(world)
        refund = refund_of(world, invoice)
        assert entry.destination == ADDRESS
        assert entry.sats == refund.amount_sats == refund.received_sats == world.simulator.ledger.received()
        assert refund.state is RefundState.SENT
        assert refund.sent_at == refund.started_at == world.backend.clock()
        assert (refund.payment_id, refund.payment_quote_id) == (entry.payment_id, entry.quote_id)
        assert (refund.reason, refund.claimed_until, refund.fee_sats) == (None, None, entry.fee_sats)
        assert executions(world) == ["COMPLETED"]

    def test_the_line_in_the_history_names_key_quote_fee_and_payment(self, world: World) -> None:
        invoice = owe(world)

        send(world)

        (line,) = history(world, invoice)
        refund, (entry,) = refund_of(world, invoice), payouts(world)
        assert (line.step, line.outcome, line.address) == ("execute", "sent", ADDRESS)
        assert line.idempotency_key == refund.idempotency_key == entry.idempotency_key
        assert (line.payment_quote_id, line.fee_sats, line.payment_id) == (entry.quote_id, 21, entry.payment_id)
        assert (line.at, line.strike_code, line.trace_id) == (world.backend.clock(), None, None)

    def test_nothing_more_happens_to_what_was_sent(self, world: World) -> None:
        owe(world)
        send(world)
        world.wait(86_400)

        assert send(world) == {}
        assert len(payouts(world)) == 1

    def test_the_shop_is_notified_once(self, make_world: MakeWorld) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = owe(world)

        send(world)
        drain(world)

        assert told_of(world, invoice) == ["refund.sent"]

    def test_the_shop_is_not_told_what_it_did_not_ask_for(self, world: World) -> None:
        invoice = owe(world)

        send(world)

        assert world.deliveries(invoice) == []

    @pytest.mark.parametrize("status", ["200", "202", "auto"])
    @pytest.mark.parametrize("fate", ["complete", "pending60", "fail"])
    def test_the_state_decides_and_not_the_http_status(self, make_world: MakeWorld, status: str, fate: str) -> None:
        world = make_world(config=SimulatorConfig(execute_status=status))
        invoice = owe(world, f"{fate}@example.com")

        send(world)

        after = {"complete": RefundState.SENT, "pending60": RefundState.IN_FLIGHT, "fail": RefundState.FAILED}
        assert refund_of(world, invoice).state is after[fate]
        assert len(payouts(world)) == (fate == "complete")

    def test_a_pass_over_what_is_starting_leaves_the_rest_alone(self, world: World) -> None:
        invoice = owe(world, "pending@example.com")
        send(world)
        world.wait(10)

        assert send(world, STARTING) == {}
        assert refund_of(world, invoice).looks == 1

    def test_a_pass_ends_when_the_process_is_asked_to(self, world: World) -> None:
        owe(world)
        world.backend.stop.set()

        assert send(world) == {}
        assert payouts(world) == []


class TestPending:
    def test_it_is_looked_at_with_growing_pauses_until_it_arrives(self, world: World) -> None:
        invoice = owe(world, "pending@example.com")
        pauses = []
        for _ in range(len(PAUSES) + 1):
            assert send(world) == {RefundState.IN_FLIGHT: 1}
            pauses.append(later(world, invoice))
            world.wait(pauses[-1])
        world.simulator.complete_payment(str(refund_of(world, invoice).payment_id))

        assert send(world) == {RefundState.SENT: 1}
        assert pauses == [5, 10, 30, 60, 300, 900, 1800, 3600, 3600]
        assert executions(world) == ["PENDING"]
        assert len(world.calls("GET /v1/payments/")) == len(pauses)
        assert [line.step for line in history(world, invoice)] == ["execute"] + ["look"] * len(pauses)
        assert len(payouts(world)) == 1

    def test_the_operator_reads_that_it_is_on_its_way(self, world: World) -> None:
        invoice = owe(world, "pending@example.com")

        send(world)

        refund = refund_of(world, invoice)
        assert refund.reason == "pending: Strike has charged it and is waiting for the recipient"
        assert (refund.claimed_until, refund.is_in_doubt) == (None, True)

    def test_it_is_not_due_before_its_pause_is_over(self, world: World) -> None:
        owe(world, "pending@example.com")
        send(world)

        world.wait(4)
        assert send(world) == {}

        world.wait(1)
        assert send(world) == {RefundState.IN_FLIGHT: 1}

    def test_what_comes_back_is_sent_again_under_a_new_key(self, world: World) -> None:
        invoice = owe(world, "pendingfail60@example.com")
        send(world)
        first = refund_of(world, invoice)
        world.wait(60)
        send(world)
        failed = refund_of(world, invoice)
        world.simulator.config.payout_behaviours = {"*": "complete"}
        world.wait(5)

        assert send(world) == {RefundState.SENT: 1}
        after = refund_of(world, invoice)
        assert failed.state is RefundState.FAILED
        assert failed.reason == "the payment failed; the money is back in your Strike account"
        assert first.idempotency_key != after.idempotency_key
        assert first.payment_quote_id != after.payment_quote_id
        assert executions(world) == ["PENDING", "COMPLETED"]
        assert len(payouts(world)) == 1

    @pytest.mark.parametrize("kind", ["unreachable", "lost_answer", "error", "garbage", "html403"])
    def test_a_look_without_an_answer_changes_nothing(self, world: World, kind: str) -> None:
        invoice = owe(world, "pending60@example.com")
        send(world)
        world.fault("GET", PAYMENT, kind)
        world.wait(61)
        send(world)

        assert refund_of(world, invoice).state is RefundState.IN_FLIGHT
        assert later(world, invoice) == 10
        assert [line.step for line in history(world, invoice)] == ["execute", "look"]

        world.wait(10)
        assert send(world) == {RefundState.SENT: 1}
        assert executions(world) == ["PENDING"]


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

    def test_a_refusal_without_a_word_leaves_the_doubt(self, world: World) -> None:
        """It may be PAYMENT_PROCESSED, cut off in the middle: only the same quote may be asked again."""
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "error", status=422, code="")

        assert send(world) == {RefundState.IN_FLIGHT: 1}
        assert refund_of(world, invoice).is_in_doubt

        drain(world)
        assert executions(world) == ["COMPLETED"]
        assert len(world.simulator.payments.quotes) == 1

    @pytest.mark.parametrize("fault", [{"kind": "html403"}, {"kind": "error", "status": 401, "code": ""}])
    def test_the_front_door_lets_nothing_through(self, world: World, fault: dict[str, Any]) -> None:
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
        config = SimulatorConfig(execute_again_failed=again, is_quote_expiry_checked_first=is_expiry_first)
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
    def test_strikes_word_that_it_is_busy_with_it_does_not_end_the_doubt(
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

    def test_refunds_without_an_answer_try_our_patience_only_so_often(self, world: World) -> None:
        for _ in range(MAX_CONSECUTIVE_FAILURES + 2):
            owe(world)
        world.fault("POST", QUOTE, "unreachable", times=None)

        assert send(world) == {"unanswered": MAX_CONSECUTIVE_FAILURES}
        assert len(world.calls(POST_QUOTE)) == MAX_CONSECUTIVE_FAILURES

    def test_an_answer_in_between_restores_our_patience(self, world: World) -> None:
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


class TestTheFee:
    @pytest.mark.parametrize(("fee", "is_sent"), [(10, True), (11, False)])
    def test_ten_sats_are_never_too_dear(self, make_world: MakeWorld, fee: int, is_sent: bool) -> None:
        config = SimulatorConfig(payout_fee_base_sats=fee, payout_fee_ppm=0)
        world = make_world(config=config, refund_max_fee_percent=Decimal(0))
        owe(world)

        assert send(world) == {RefundState.SENT if is_sent else RefundState.FAILED: 1}

    @pytest.mark.parametrize(
        ("sats", "fee", "is_sent"), [(99, 9, True), (99, 10, False), (16, 1, True), (16, 2, False)]
    )
    def test_but_of_a_small_refund_no_fee_is_more_than_a_tenth(
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
    def test_a_part_of_a_sat_is_none(self, make_world: MakeWorld, fee: int, is_sent: bool) -> None:
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


def shrink(world: World, sats: int) -> None:
    """Have every refund be of so many sats."""
    with world.backend.repository.engine.begin() as connection:
        connection.execute(text("UPDATE refunds SET amount_sats = :sats"), {"sats": sats})


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


def change_rules(world: World, **changes: Any) -> None:
    """As if the process had other settings."""
    rules = world.backend.refund_sender.rules
    for name, value in changes.items():
        object.__setattr__(rules, name, value)


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


class TestOneBrokenRefund:
    def test_it_does_not_hold_up_the_others(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        broken, good = owe(world, "broken@example.com"), owe(world)
        create = world.backend.strike.create_payment_quote

        def break_for_one(address: str, *others: Any) -> Any:
            if address.startswith("broken"):
                raise RuntimeError("a bug")
            return create(address, *others)

        setattr(world.backend.strike, "create_payment_quote", break_for_one)  # noqa: B010

        assert send(world) == {"error": 1, RefundState.SENT: 1}
        assert (refund_of(world, broken).state, refund_of(world, good).state) == (
            RefundState.REQUESTED,
            RefundState.SENT,
        )
        assert "refund failed unexpectedly" in caplog.text

    def test_it_is_tried_again_when_its_claim_has_run_out(self, world: World) -> None:
        for _ in range(2):
            owe(world)
        change_quotes(world, lambda _: 1 / 0)
        assert send(world) == {"error": 2}
        world.restart()

        assert send(world) == {}
        world.wait(CLAIM_SECONDS)
        drain(world)
        assert len(payouts(world)) == 2


class TestClaims:
    def test_what_another_process_works_on_is_left_to_it(self, world: World) -> None:
        owe(world)
        other = twin(world)
        seen: list[Any] = []
        before_call(world, POST_QUOTE, lambda: seen.append(send_due_refunds(other.refund_sender)))

        assert send(world) == {RefundState.SENT: 1}
        assert seen == [{}]
        other.close()

    def test_a_claim_lost_between_seeing_and_taking_leads_to_the_next(self, world: World) -> None:
        """Another process claims the first due refund just before we do."""
        first, second = owe(world, "pending@example.com"), owe(world)
        other = twin(world)
        steal_once(world, lambda: send_due_refunds(dataclasses.replace(other.refund_sender, stop=Once())))

        assert send(world) == {RefundState.SENT: 1}
        assert refund_of(world, first).claims == refund_of(world, second).claims == 1
        other.close()

    def test_nothing_is_claimed_when_another_process_claimed_all(self, world: World) -> None:
        owe(world)
        other = twin(world)
        steal_once(world, lambda: send_due_refunds(other.refund_sender))

        assert send(world) == {}
        assert len(payouts(world)) == 1
        other.close()

    @pytest.mark.parametrize("fate", ["complete", "pending30", "fail"])
    def test_a_worker_that_wakes_after_its_claim_ran_out_adds_no_payment(self, world: World, fate: str) -> None:
        invoice = owe(world, f"{fate}@example.com")
        other = twin(world)

        def oversleep() -> None:
            world.wait(CLAIM_SECONDS)
            send_due_refunds(other.refund_sender)

        before_call(world, PATCH, oversleep)
        send(world)

        assert len(payouts(world)) <= 1
        world.simulator.config.payout_behaviours = {"*": "complete"}
        drain(world)
        assert len(payouts(world)) <= 1
        assert refund_of(world, invoice).state in (RefundState.SENT, RefundState.IN_FLIGHT)
        other.close()

    def test_a_late_sleeper_between_quote_and_start_does_not_start(self, world: World) -> None:
        invoice = owe(world)
        other = twin(world)

        def oversleep(quote: Any) -> Any:
            world.wait(CLAIM_SECONDS)
            send_due_refunds(other.refund_sender)
            return quote

        change_quotes(world, oversleep)

        assert send(world)["taken"] == 1
        assert executions(world) == []

        world.restart()
        drain(world)
        assert refund_of(world, invoice).state is RefundState.SENT
        assert len(payouts(world)) == 1
        other.close()

    def test_a_late_sleeper_does_not_ask_for_an_address_again(self, make_world: MakeWorld) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = owe(world, "unknown@example.com")
        other = twin(world)
        before_call(world, POST_QUOTE, partial(oversleep, world, other))

        assert send(world) == {"taken": 1}

        assert refund_of(world, invoice).state is RefundState.NEEDS_ADDRESS
        assert len(history(world, invoice)) == len(told_of(world, invoice)) == 1
        other.close()

    def test_a_late_sleeper_does_not_hold_what_is_held(self, make_world: MakeWorld) -> None:
        world = make_world(refunds_enabled=False)
        invoice = owe(world)
        other = twin(world)
        steal_after_the_claim(world, partial(oversleep, world, other))

        assert send(world) == {"taken": 1}

        assert refund_of(world, invoice).state is RefundState.HELD
        assert [line.step for line in history(world, invoice)] == ["hold"]
        other.close()

    def test_a_late_sleeper_does_not_execute_again(self, world: World) -> None:
        owe(world)
        world.fault("PATCH", EXECUTE, "unreachable")
        send(world)
        world.wait(5)
        other = twin(world)
        steal_after_the_claim(world, partial(oversleep, world, other))

        assert send(world) == {"taken": 1}

        assert executions(world) == ["COMPLETED"]
        other.close()

    def test_a_payment_of_a_refund_that_is_not_in_flight_here_is_reported(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A person said that it was not sent, while a worker slept for an hour before it sent it."""
        world.simulator.config.payment_quote_seconds = 7200
        invoice = owe(world)

        def sleep_for_an_hour() -> None:
            world.wait(3600)
            retry(world.backend.repository, invoice.strike_invoice_id, "not in the list", world.backend.clock())

        before_call(world, PATCH, sleep_for_an_hour)

        assert send(world)[RefundState.REQUESTED] == 1
        assert "strike sent a refund that is not in flight here" in caplog.text


class Once(threading.Event):
    """Asks a pass to end after its first refund."""

    asked = 0

    def is_set(self) -> bool:
        """True from the second time on."""
        self.asked += 1
        return self.asked > 1


def steal_once(world: World, steal: Callable[[], object]) -> None:
    """Do `steal` just before the next transaction."""
    plain = world.backend.repository.transaction

    def stolen() -> Any:
        setattr(world.backend.repository, "transaction", plain)  # noqa: B010
        steal()
        return plain()

    setattr(world.backend.repository, "transaction", stolen)  # noqa: B010


def steal_after_the_claim(world: World, steal: Callable[[], object]) -> None:
    """Do `steal` just before the transaction that follows the one that takes the refund."""
    steal_once(world, partial(steal_once, world, steal))


def crash() -> None:
    raise Crash


FATES = ["complete", "pending30", "fail", "unknown"]


class TestAtAnyMoment:
    """Every moment before and after each commit and each call, one after the other."""

    @pytest.mark.parametrize("fate", FATES)
    def test_a_crash_never_leads_to_a_second_payment(self, tmp_path: Path, fate: str) -> None:
        for fatal in count():
            (tmp_path / str(fatal)).mkdir()
            config = SimulatorConfig(payment_quote_seconds=3600)
            world = World.make(tmp_path / str(fatal), config=config)
            invoice = owe(world, f"{fate}@example.com")
            moments = Moments(world, fatal, crash, is_inside=True)
            crash_at_the_fatal_moment(world)
            moments.end()
            recover(world, invoice)
            assert refund_of(world, invoice).state is RefundState.SENT, moments.passed
            assert len(payouts(world)) == 1, moments.passed
            world.close()
            if not moments.is_over:
                break
        assert fatal >= 10

    def test_a_crash_when_the_quote_may_have_been_executed_is_never_guessed_about(self, tmp_path: Path) -> None:
        """With quotes that are too old by the time the claim has run out, where Strike looks at their age first."""
        stuck = []
        for fatal in count():
            (tmp_path / str(fatal)).mkdir()
            config = SimulatorConfig(is_quote_expiry_checked_first=True, payment_quote_seconds=int(CLAIM_SECONDS))
            world = World.make(tmp_path / str(fatal), config=config)
            invoice = owe(world)
            moments = Moments(world, fatal, crash, is_inside=True)
            crash_at_the_fatal_moment(world)
            moments.end()
            recover(world, invoice)
            refund = refund_of(world, invoice)
            if refund.reason == STUCK:
                stuck.append(moments.passed[fatal])
            else:
                assert refund.state is RefundState.SENT
            assert len(payouts(world)) == 1 or refund.reason == STUCK
            assert len(payouts(world)) <= 1
            world.close()
            if not moments.is_over:
                break
        assert {name.split("/")[0] for name in stuck} >= {"before PATCH ", "after PATCH "}

    @pytest.mark.parametrize(
        ("fate", "daily_max_sats"),
        [*((fate, None) for fate in FATES), ("dear", None), ("noroute", None), ("complete", 1)],
    )
    def test_a_process_that_oversleeps_while_another_goes_on_adds_no_payment(
        self, tmp_path: Path, fate: str, daily_max_sats: int | None
    ) -> None:
        for fatal in count():
            (tmp_path / str(fatal)).mkdir()
            config = SimulatorConfig(payment_quote_seconds=3600)
            world = World.make(tmp_path / str(fatal), config=config, refund_daily_max_sats=daily_max_sats)
            invoice = owe(world, f"{fate}@example.com")
            other = twin(world)
            moments = Moments(world, fatal, partial(oversleep, world, other), is_inside=False)
            send(world)
            moments.end()
            recover(world, invoice)
            assert refund_of(world, invoice).state is RefundState.SENT, moments.passed
            assert len(payouts(world)) == 1, moments.passed
            other.close()
            world.close()
            if not moments.is_over:
                break
        assert fatal >= 5


def crash_at_the_fatal_moment(world: World) -> None:
    with contextlib.suppress(Crash):
        send(world)


def oversleep(world: World, other: Any) -> None:
    """Sleep until our claim has run out, while another process takes the refund as far as it gets."""
    world.wait(CLAIM_SECONDS)
    send_due_refunds(other.refund_sender)


def recover(world: World, invoice: Invoice) -> None:
    """A new process over the same database, a world without obstacles, and people who do their part."""
    world.restart()
    world.simulator.config.payout_behaviours = {"*": "complete"}
    world.simulator.config.payout_fee_base_sats = 1
    world.wait(CLAIM_SECONDS)
    repository, clock = world.backend.repository, world.backend.clock
    for _ in range(3):
        drain(world, hours=0.1)
        refund = refund_of(world, invoice)
        if refund.state is RefundState.HELD:
            approve(repository, invoice.strike_invoice_id, clock())
        elif refund.state is RefundState.NEEDS_ADDRESS:
            give_address(repository, refund.token, "bob@example.com", clock())
        elif refund.state is RefundState.FAILED:
            change_address(repository, invoice.strike_invoice_id, "bob@example.com", clock())


class TestTheWebhook:
    def test_it_finishes_a_pending_refund(self, make_world: MakeWorld) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        world.subscribe()
        invoice = owe(world, "pending60@example.com")
        send(world)
        world.wait(60)
        world.simulator.tick()

        assert set(world.pump()) == {200}
        refund = refund_of(world, invoice)
        assert (refund.state, refund.claimed_until, history(world, invoice)[-1].step) == (
            RefundState.SENT,
            None,
            "webhook",
        )
        assert told_of(world, invoice) == ["refund.sent"]
        assert executions(world) == ["PENDING"]

    def test_it_notes_that_a_payment_came_back(self, world: World) -> None:
        world.subscribe()
        invoice = owe(world, "pendingfail60@example.com")
        send(world)
        world.wait(60)
        world.simulator.tick()

        world.pump()

        assert refund_of(world, invoice).state is RefundState.FAILED

    def test_it_leaves_what_is_still_pending(self, world: World) -> None:
        invoice = owe(world, "pending60@example.com")
        send(world)
        payment_id = str(refund_of(world, invoice).payment_id)

        assert (
            reconcile_payment(world.backend.refund_sender, payment_id, timeout=WEBHOOK_TIMEOUT) is RefundState.IN_FLIGHT
        )
        assert refund_of(world, invoice).claimed_until is None

    @pytest.mark.parametrize("is_sent", [True, False])
    def test_payments_that_are_not_in_flight_here_are_nothing_to_it(self, world: World, is_sent: bool) -> None:
        invoice = owe(world)
        send(world)
        payment_id = str(refund_of(world, invoice).payment_id) if is_sent else "no-payment-of-ours"

        assert reconcile_payment(world.backend.refund_sender, payment_id) is None
        assert world.calls("GET /v1/payments/") == []

    def test_while_it_is_being_processed_strike_must_retry(self, world: World) -> None:
        world.subscribe()
        invoice = owe(world, "pending60@example.com")
        send(world)
        world.pump()
        world.wait(60)
        statuses: list[int] = []
        before_call(world, "GET /v1/payments/", lambda: statuses.extend(world.pump()))

        assert send(world) == {RefundState.SENT: 1}
        assert statuses == [503]
        world.wait(3)
        assert world.pump() == [200]
        assert refund_of(world, invoice).state is RefundState.SENT

    def test_a_claim_that_ran_out_does_not_keep_it_away(self, world: World) -> None:
        world.simulator.config.payment_quote_seconds = 3600
        invoice = owe(world, "pending60@example.com")
        send(world)
        payment_id = str(refund_of(world, invoice).payment_id)
        world.wait(60)
        before_call(world, "GET /v1/payments/", crash)
        with pytest.raises(Crash):
            send(world)

        with pytest.raises(StrikeUnavailable, match=r"^the refund is being processed$") as caught:
            reconcile_payment(world.backend.refund_sender, payment_id)
        assert caught.value.retry_after_seconds == 3
        world.wait(CLAIM_SECONDS)
        assert reconcile_payment(world.backend.refund_sender, payment_id) is RefundState.SENT

    @pytest.mark.parametrize(("kind", "error"), [("unreachable", StrikeUnavailable), ("html403", StrikeRejected)])
    def test_when_strike_cannot_tell_the_claim_is_given_back(
        self, world: World, kind: str, error: type[Exception]
    ) -> None:
        invoice = owe(world, "pending60@example.com")
        send(world)
        payment_id = str(refund_of(world, invoice).payment_id)
        world.fault("GET", PAYMENT, kind)

        with pytest.raises(error):
            reconcile_payment(world.backend.refund_sender, payment_id)

        refund = refund_of(world, invoice)
        assert (refund.state, refund.claimed_until) == (RefundState.IN_FLIGHT, None)

    def test_while_it_checks_no_other_process_does_and_not_for_long(self, world: World) -> None:
        invoice = owe(world, "pending60@example.com")
        send(world)
        payment_id = str(refund_of(world, invoice).payment_id)
        world.wait(10)
        world.fault("GET", PAYMENT, "delay_after", seconds=WEBHOOK_TIMEOUT[1] + 1)
        seen: list[Any] = []
        before_call(world, "GET /v1/payments/", lambda: seen.extend([refund_of(world, invoice), send(world)]))
        started_at = world.backend.clock()

        with pytest.raises(StrikeUnavailable):
            reconcile_payment(world.backend.refund_sender, payment_id, timeout=WEBHOOK_TIMEOUT)

        assert (seen[0].claimed_until, seen[1]) == (started_at + CLAIM, {})
        assert world.backend.clock() - started_at == timedelta(seconds=WEBHOOK_TIMEOUT[1])

    def test_when_another_process_claims_it_at_the_same_time_strike_must_retry(self, world: World) -> None:
        invoice = owe(world, "pending60@example.com")
        send(world)
        payment_id = str(refund_of(world, invoice).payment_id)
        let_claims_fail(world)

        with pytest.raises(StrikeUnavailable, match=r"^the refund is being processed$") as caught:
            reconcile_payment(world.backend.refund_sender, payment_id)

        assert caught.value.retry_after_seconds == 3

    def test_a_person_who_settles_it_meanwhile_is_believed(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The webhook's look at Strike ends after a person has settled the refund by hand."""
        invoice = owe(world, "pending@example.com")
        send(world)
        refund = refund_of(world, invoice)
        world.wait(3600)

        def settle() -> None:
            world.wait(CLAIM_SECONDS)
            now = world.backend.clock()
            settle_by_hand(world.backend.repository, invoice.strike_invoice_id, "in the list", frozenset(), now)
            world.simulator.complete_payment(str(refund.payment_id))

        before_call(world, "GET /v1/payments/", settle)

        assert reconcile_payment(world.backend.refund_sender, str(refund.payment_id)) is RefundState.SENT
        assert str(refund_of(world, invoice).reason).startswith("by hand: ")
        assert history(world, invoice)[-1].step == "by hand"
        assert "not in flight here" not in caplog.text

    def test_one_that_is_put_off_after_its_claim_was_lost_says_nothing(self, world: World) -> None:
        invoice = owe(world, "pending@example.com")
        send(world)
        refund = refund_of(world, invoice)
        other = twin(world)

        def oversleep() -> None:
            world.wait(CLAIM_SECONDS)
            send_due_refunds(other.refund_sender)

        before_call(world, "GET /v1/payments/", oversleep)

        assert reconcile_payment(world.backend.refund_sender, str(refund.payment_id)) is None
        other.close()


def let_claims_fail(world: World) -> None:
    """As PostgreSQL does when another process changes the row between our reading and our writing."""
    plain = world.backend.repository.transaction

    class Refused:
        def __enter__(self) -> Transaction:
            self.inner = plain()
            tx = self.inner.__enter__()
            setattr(tx.refunds, "claim", lambda *_, **__: None)  # noqa: B010
            return tx

        def __exit__(self, *error: Any) -> Any:
            return self.inner.__exit__(*error)

    setattr(world.backend.repository, "transaction", Refused)  # noqa: B010


class TestTheServersThread:
    def test_it_sends_without_any_worker(self, world: World) -> None:
        invoice = owe(world)
        world.backend.refund_dispatcher.start()
        try:
            for _ in range(200):
                if refund_of(world, invoice).state is RefundState.SENT:
                    break
                threading.Event().wait(0.02)
        finally:
            world.backend.stop.set()
            world.backend.refund_dispatcher.join()
        assert len(payouts(world)) == 1

    def test_it_knows_when_the_next_is_due(self, world: World) -> None:
        invoice = owe(world, "pending@example.com")
        send(world)

        assert world.backend.refund_dispatcher._next_due_at() == world.backend.clock() + timedelta(seconds=5)
        assert refund_of(world, invoice).next_attempt_at == world.backend.refund_dispatcher._next_due_at()

    def test_it_rests_after_a_pass_without_an_answer(self, world: World) -> None:
        """With a thousand due refunds and a Strike that asks to wait, it would put off one after the other in vain."""
        for _ in range(2):
            owe(world)
        world.fault("POST", QUOTE, "rate_limited")

        world.backend.refund_dispatcher._send()

        assert world.backend.refund_dispatcher._next_due_at() == world.backend.clock() + timedelta(seconds=5)

    def test_it_does_not_rest_while_it_is_answered(self, world: World) -> None:
        owe(world, "pending@example.com")
        world.backend.refund_dispatcher._send()
        late = owe(world)

        assert world.backend.refund_dispatcher._next_due_at() == world.backend.clock() - timedelta(seconds=175)
        assert refund_of(world, late).state is RefundState.REQUESTED

    def test_it_has_nothing_to_wait_for_where_nothing_is_owed(self, world: World) -> None:
        assert world.backend.refund_dispatcher._next_due_at() is None


def test_a_refund_in_any_waiting_state_is_one_that_time_moves_on() -> None:
    assert set(WAITING) == {RefundState.REQUESTED, RefundState.QUOTED, RefundState.IN_FLIGHT, RefundState.FAILED}
    assert PaymentStatus("PENDING") is PaymentStatus.PENDING
