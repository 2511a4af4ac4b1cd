"""A refund that is owed is sent once, and everything about it is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from lnpay.domain.states import RefundState
from lnpay.refunds.outcomes import PAUSES
from lnpay.refunds.send import (
    STARTING,
    WAITING,
)
from lnpay.sandbox.config import SimulatorConfig
from lnpay.strike.answers import PaymentStatus
from tests.integration.refunds.refund_steps import CLAIM_SECONDS, MakeWorld, change_quotes, later, told_of
from tests.owing import (
    ADDRESS,
    PAYMENT,
    drain,
    executions,
    history,
    owe,
    payouts,
    refund_of,
    send,
)
from tests.world import ALL_EVENTS, World


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


def test_a_refund_in_any_waiting_state_is_one_that_time_moves_on() -> None:
    assert set(WAITING) == {RefundState.REQUESTED, RefundState.QUOTED, RefundState.IN_FLIGHT, RefundState.FAILED}
    assert PaymentStatus("PENDING") is PaymentStatus.PENDING
