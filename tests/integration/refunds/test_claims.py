"""Two processes never send one refund."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lnpay.domain.states import RefundState
from lnpay.refunds.by_hand import (
    retry,
)
from lnpay.refunds.send import (
    send_due_refunds,
)
from tests.integration.refunds.refund_steps import (
    CLAIM_SECONDS,
    PATCH,
    POST_QUOTE,
    MakeWorld,
    before_call,
    change_quotes,
    oversleep,
    told_of,
)
from tests.owing import (
    EXECUTE,
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

    def test_a_process_that_stalls_between_quote_and_start_does_not_start(self, world: World) -> None:
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

    def test_a_process_that_stalled_does_not_ask_for_an_address_again(self, make_world: MakeWorld) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = owe(world, "unknown@example.com")
        other = twin(world)
        before_call(world, POST_QUOTE, partial(oversleep, world, other))

        assert send(world) == {"taken": 1}

        assert refund_of(world, invoice).state is RefundState.NEEDS_ADDRESS
        assert len(history(world, invoice)) == len(told_of(world, invoice)) == 1
        other.close()

    def test_a_process_that_stalled_does_not_hold_what_is_held(self, make_world: MakeWorld) -> None:
        world = make_world(refunds_enabled=False)
        invoice = owe(world)
        other = twin(world)
        steal_after_the_claim(world, partial(oversleep, world, other))

        assert send(world) == {"taken": 1}

        assert refund_of(world, invoice).state is RefundState.HELD
        assert [line.step for line in history(world, invoice)] == ["hold"]
        other.close()

    def test_a_process_that_stalled_does_not_execute_again(self, world: World) -> None:
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
