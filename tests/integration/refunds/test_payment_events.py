"""Strike's webhooks about payments, and the server's own thread."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from lnpay.domain.errors import StrikeRejected, StrikeUnavailable
from lnpay.domain.states import RefundState
from lnpay.refunds.by_hand import (
    settle_by_hand,
)
from lnpay.refunds.send import (
    CLAIM,
    reconcile_payment,
    send_due_refunds,
)
from lnpay.repository import Transaction
from lnpay.strike.client import WEBHOOK_TIMEOUT
from tests.integration.refunds.refund_steps import CLAIM_SECONDS, MakeWorld, before_call, crash, told_of
from tests.owing import (
    PAYMENT,
    QUOTE,
    Crash,
    executions,
    history,
    owe,
    payouts,
    refund_of,
    send,
    twin,
)
from tests.world import ALL_EVENTS, World


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

    def test_settling_it_by_hand_meanwhile_takes_precedence(
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

    def test_it_pauses_after_a_pass_without_an_answer(self, world: World) -> None:
        """With a thousand due refunds and a Strike that asks to wait, it would put off one after the other in vain."""
        for _ in range(2):
            owe(world)
        world.fault("POST", QUOTE, "rate_limited")

        world.backend.refund_dispatcher._send()

        assert world.backend.refund_dispatcher._next_due_at() == world.backend.clock() + timedelta(seconds=5)

    def test_it_does_not_pause_while_it_is_answered(self, world: World) -> None:
        owe(world, "pending@example.com")
        world.backend.refund_dispatcher._send()
        late = owe(world)

        assert world.backend.refund_dispatcher._next_due_at() == world.backend.clock() - timedelta(seconds=175)
        assert refund_of(world, late).state is RefundState.REQUESTED

    def test_it_has_nothing_to_wait_for_where_nothing_is_owed(self, world: World) -> None:
        assert world.backend.refund_dispatcher._next_due_at() is None
