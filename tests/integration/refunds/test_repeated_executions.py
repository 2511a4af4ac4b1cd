"""An execution that reaches Strike twice pays once, in whichever words Strike answers the second."""

from __future__ import annotations

import pytest

from lnpay.domain.states import Closer, RefundState
from lnpay.sandbox.config import SimulatorConfig
from tests.integration.refunds.refund_steps import MakeWorld
from tests.owing import EXECUTE, drain, owe, payouts, refund_of, send

AGAIN = ("with_id", "without_id", "older_code", "payment")


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("kind", ["repeated", "lost_answer", "error_after"])
def test_the_refund_is_sent_and_paid_once(make_world: MakeWorld, again: str, kind: str) -> None:
    world = make_world(config=SimulatorConfig(execute_again_done=again))
    invoice = owe(world)
    world.fault("PATCH", EXECUTE, kind)

    assert send(world) == {RefundState.SENT: 1}
    drain(world)

    refund = refund_of(world, invoice)
    is_named = again in ("with_id", "payment")
    assert refund.closed_by is (Closer.STRIKE if is_named else Closer.INFERRED)
    assert refund.payment_id == (payouts(world)[0].payment_id if is_named else None)
    assert len(payouts(world)) == len(world.simulator.payments.quotes) == 1


@pytest.mark.parametrize("form", ["full", "recorded", "everything"])
@pytest.mark.parametrize("name", ["ann", "pending60"])
def test_a_payment_is_read_in_each_form_that_strike_has_sent(make_world: MakeWorld, form: str, name: str) -> None:
    world = make_world(config=SimulatorConfig(payment_form=form))
    invoice = owe(world, f"{name}@example.com")

    drain(world)

    assert refund_of(world, invoice).state is RefundState.SENT
    assert len(payouts(world)) == 1
