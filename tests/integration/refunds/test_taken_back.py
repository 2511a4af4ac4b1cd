"""What Strike takes back is not refunded as well, and what Strike only hints at is marked as inferred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lnpay.commands.refunds import INFERRED_WORDS, _sentence
from lnpay.domain.states import Closer, HoldCause, RefundState
from lnpay.refunds.by_hand import approve, give_address, settle_by_hand
from lnpay.runtime.worker_passes import refund_pass
from lnpay.sandbox.config import SimulatorConfig
from lnpay.strike.invoices import InvoiceStatus
from tests.owing import EXECUTE, drain, history, owe, payouts, refund_of, send
from tests.world import World

INVOICE = "/v1/invoices/*"


def show_as(world: World, strike_invoice_id: str, status: InvoiceStatus) -> None:
    """What became of the payment at Strike meanwhile."""
    world.simulator.invoices.by_id[strike_invoice_id].state = status


class TestReversed:
    @pytest.mark.parametrize("status", [InvoiceStatus.REVERSED, InvoiceStatus.CANCELLED])
    def test_a_payment_that_was_taken_back_before_the_refund_is_held(self, world: World, status: InvoiceStatus) -> None:
        invoice = owe(world)
        show_as(world, invoice.strike_invoice_id, status)

        assert send(world) == {RefundState.HELD: 1}

        refund = refund_of(world, invoice)
        assert refund.held_because is HoldCause.REVERSED
        assert str(status) in (refund.reason or "")
        assert payouts(world) == []
        assert world.simulator.payments.quotes == {}
        assert "1 held" in (refund_pass(world.backend).trouble or "")

    def test_an_approval_does_not_send_it_and_the_operator_can_close_it(self, world: World) -> None:
        invoice = owe(world)
        show_as(world, invoice.strike_invoice_id, InvoiceStatus.REVERSED)
        send(world)
        approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())

        assert send(world) == {RefundState.HELD: 1}
        settle_by_hand(
            world.backend.repository, invoice.strike_invoice_id, "taken back", frozenset(), world.backend.clock()
        )
        assert refund_of(world, invoice).closed_by is Closer.OPERATOR
        assert payouts(world) == []

    def test_one_that_is_taken_back_between_two_tries_is_held(self, world: World) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "error", status=422, code="BALANCE_TOO_LOW")
        assert send(world) == {RefundState.FAILED: 1}
        show_as(world, invoice.strike_invoice_id, InvoiceStatus.REVERSED)
        world.wait(10)

        assert send(world) == {RefundState.HELD: 1}
        assert payouts(world) == []

    def test_one_that_is_taken_back_while_it_waits_for_an_address_is_held(self, world: World) -> None:
        invoice = owe(world, None)
        show_as(world, invoice.strike_invoice_id, InvoiceStatus.REVERSED)
        give_address(world.backend.repository, refund_of(world, invoice).token, "a@example.com", world.backend.clock())

        assert send(world) == {RefundState.HELD: 1}

    @pytest.mark.parametrize("status", [InvoiceStatus.UNPAID, InvoiceStatus.PENDING])
    def test_one_that_is_not_paid_at_this_moment_waits(self, world: World, status: InvoiceStatus) -> None:
        invoice = owe(world)
        show_as(world, invoice.strike_invoice_id, status)

        assert send(world) == {RefundState.REQUESTED: 1}
        show_as(world, invoice.strike_invoice_id, InvoiceStatus.PAID)
        world.wait(10)
        assert send(world) == {RefundState.SENT: 1}

    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "unreachable"},
            {"kind": "lost_answer"},
            {"kind": "error", "status": 503},
            {"kind": "error", "status": 404, "code": "NOT_FOUND"},
            {"kind": "html403"},
            {"kind": "garbage"},
            {"kind": "field_changed", "field": "state", "value": "SHIPPED"},
        ],
        ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
    )
    def test_nothing_is_sent_while_its_payment_cannot_be_read(self, world: World, fault: dict[str, Any]) -> None:
        invoice = owe(world)
        world.fault("GET", INVOICE, **fault)

        send(world)

        refund = refund_of(world, invoice)
        assert (refund.state, payouts(world)) == (RefundState.REQUESTED, [])
        assert "the invoice could not be read" in (refund.reason or "")
        world.wait(10)
        assert send(world) == {RefundState.SENT: 1}
        assert len(payouts(world)) == 1

    def test_being_asked_to_wait_is_honoured(self, world: World) -> None:
        invoice = owe(world)
        world.fault("GET", INVOICE, "rate_limited", seconds=600)

        assert send(world) == {"unanswered": 1}
        assert (refund_of(world, invoice).next_attempt_at - world.backend.clock()).total_seconds() == 600


class TestUnknownInvoice:
    """As after an upgrade with the key of another account: Strike does not know what is to be refunded."""

    @pytest.mark.parametrize(("status", "code"), [(404, "NOT_FOUND"), (400, "INVALID_DATA")])
    def test_it_is_asked_about_with_growing_pauses_and_named_to_the_operator(
        self, world: World, status: int, code: str
    ) -> None:
        invoice = owe(world)
        before = len(world.calls())
        world.fault("GET", INVOICE, "error", status=status, code=code, times=None)
        drain(world, hours=3)

        assert 0 < len(world.calls()) - before < 15
        assert refund_of(world, invoice).state is RefundState.REQUESTED
        assert payouts(world) == []
        world.wait(3_600)
        assert "1 refund could not be sent" in (refund_pass(world.backend).trouble or "")

    def test_it_is_sent_once_strike_knows_it(self, world: World) -> None:
        owe(world)
        world.fault("GET", INVOICE, "error", status=404, code="NOT_FOUND", times=3)
        drain(world)

        assert len(payouts(world)) == 1


class TestInferred:
    def lose_the_answer(self, world: World) -> Any:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_answer")
        assert send(world) == {RefundState.SENT: 1}
        assert len(payouts(world)) == 1
        return invoice

    def test_a_refund_whose_payment_strike_does_not_name_is_inferred(self, make_world: Callable[..., World]) -> None:
        world = make_world(config=SimulatorConfig(execute_again_done="without_id"), admin_password="a" * 20)
        invoice = self.lose_the_answer(world)

        refund = refund_of(world, invoice)

        assert (refund.closed_by, refund.payment_id) == (Closer.INFERRED, None)
        assert INFERRED_WORDS in _sentence(refund)
        assert "inferred" in history(world, invoice)[-1].outcome

    def test_one_whose_payment_strike_names_is_not(self, make_world: Callable[..., World]) -> None:
        world = make_world(config=SimulatorConfig(execute_again_done="with_id"))
        invoice = self.lose_the_answer(world)

        refund = refund_of(world, invoice)

        assert refund.closed_by is Closer.STRIKE
        assert refund.payment_id is not None
        assert "inferred" not in _sentence(refund)
