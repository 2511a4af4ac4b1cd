"""A crash at any moment never leads to a second payment."""

from __future__ import annotations

import contextlib
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from lnpay.domain.model import Invoice
from lnpay.domain.states import RefundState
from lnpay.refunds.by_hand import (
    approve,
    change_address,
    give_address,
)
from lnpay.refunds.outcomes import STUCK
from lnpay.sandbox.config import SimulatorConfig
from tests.integration.refunds.refund_steps import CLAIM_SECONDS, crash, oversleep
from tests.owing import (
    Crash,
    Moments,
    drain,
    owe,
    payouts,
    refund_of,
    send,
    twin,
)
from tests.world import World

FATES = ["complete", "pending30", "fail", "unknown"]


def crash_at_the_fatal_moment(world: World) -> None:
    with contextlib.suppress(Crash):
        send(world)


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


class TestAtAnyMoment:
    """Every moment before and after each commit and each call, one after the other."""

    @pytest.mark.untraced
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

    @pytest.mark.untraced
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
        [
            ("complete", None),
            *(
                pytest.param(*more, marks=pytest.mark.untraced)
                for more in (*((fate, None) for fate in FATES[1:]), ("dear", None), ("noroute", None), ("complete", 1))
            ),
        ],
    )
    def test_a_process_that_stalls_beyond_its_claim_adds_no_payment(
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
