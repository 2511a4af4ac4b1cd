"""A copy of the database is used without being marked: a disk snapshot, a standby, the old server started again.

What the original has sent since is not sent again: the provider's ledger says so.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lnpay.domain.model import Invoice
from lnpay.domain.states import HoldCause, RefundState
from lnpay.refunds.after_restore import doubt_refunds
from lnpay.refunds.by_hand import (
    approve,
    change_address,
    give_address,
    settle_by_hand,
)
from lnpay.refunds.send import FORGOTTEN_AFTER
from lnpay.runtime.worker_passes import main_pass, refund_pass
from lnpay.sandbox.config import SimulatorConfig
from tests.owing import EXECUTE, QUOTE, Crash, Moments, drain, history, owe, payouts, refund_of, send
from tests.scenarios.afterwards import finish, work
from tests.world import World

Make = Callable[..., World]

READS = pytest.mark.parametrize("has_read", [False, True], ids=["quotes hidden", "quotes shown"])


def database_of(world: World) -> Path:
    return Path(world.database_url.removeprefix("sqlite:///"))


def take_copy(world: World) -> Path:
    """The database as it is at this moment, as a snapshot of the disk has it."""
    copy = database_of(world).with_name("copy.sqlite")
    copy.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(database_of(world))) as original,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        original.backup(target)
    return copy


def go_on_with(world: World, copy: Path) -> None:
    """The copy becomes the database; a new process starts on it."""
    world.backend.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{database_of(world)}{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, database_of(world))
    world.restart()


def send_from_the_original(world: World) -> None:
    """The refund is no longer blocked; the original sends it."""
    finish(world)
    assert len(payouts(world)) == 1


def approve_it(world: World, invoice: Invoice) -> None:
    approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())


class TestWhatTheOriginalHasSentSince:
    @READS
    def test_a_refund_that_was_requested(self, make_world: Make, *, has_read: bool) -> None:
        world = make_world(config=SimulatorConfig(has_payment_quote_read=has_read))
        invoice = owe(world)
        copy = take_copy(world)
        send_from_the_original(world)

        go_on_with(world, copy)
        work(world)

        refund = refund_of(world, invoice)
        assert len(payouts(world)) == 1
        assert (refund.state, refund.held_because) == (RefundState.HELD, HoldCause.FORKED)
        assert "another copy of this database was detected" in str(refund.reason)
        assert "1 held" in str(refund_pass(world.backend).trouble)

    def test_a_late_payment_that_the_copy_has_yet_to_find(self, world: World) -> None:
        invoice = world.sell(ln_address="alice@example.com")
        copy = take_copy(world)
        world.pay(invoice, late_seconds=180)
        work(world, hours=0.1)
        assert len(payouts(world)) == 1

        go_on_with(world, copy)
        work(world)

        assert len(payouts(world)) == 1
        assert refund_of(world, invoice).held_because is HoldCause.FORKED

    @pytest.mark.parametrize("behaviour", ["fail", "noroute", "pendingfail30"])
    def test_a_refund_that_had_failed(self, world: World, behaviour: str) -> None:
        invoice = owe(world, f"{behaviour}@example.com")
        drain(world, hours=0.02)
        copy = take_copy(world)
        send_from_the_original(world)

        go_on_with(world, copy)
        work(world)

        assert len(payouts(world)) == 1
        assert refund_of(world, invoice).state is RefundState.HELD

    def test_a_refund_whose_quote_was_refused_for_a_while(self, world: World) -> None:
        owe(world)
        world.fault("POST", QUOTE, "error", status=403, code="FORBIDDEN")
        send(world)
        copy = take_copy(world)
        send_from_the_original(world)

        go_on_with(world, copy)
        work(world)

        assert len(payouts(world)) == 1

    def test_a_refund_to_which_one_copy_was_given_more_addresses_than_the_other(self, world: World) -> None:
        invoice = owe(world, "unknown@example.com")
        send(world)
        token, copy = refund_of(world, invoice).token, take_copy(world)
        for address in ("unknown2@example.com", "bob@example.com"):
            give_address(world.backend.repository, token, address, world.backend.clock())
            send(world)
        send_from_the_original(world)

        go_on_with(world, copy)
        change_address(world.backend.repository, invoice.strike_invoice_id, "bob@example.com", world.backend.clock())
        work(world)

        assert len(payouts(world)) == 1
        assert refund_of(world, invoice).state is RefundState.HELD

    def test_a_held_refund_that_was_approved(self, make_world: Make) -> None:
        world = make_world(refunds_enabled=False)
        invoice = owe(world)
        send(world)
        copy = take_copy(world)
        approve_it(world, invoice)
        send_from_the_original(world)

        go_on_with(world, copy)
        approve_it(world, invoice)
        work(world)

        assert len(payouts(world)) == 1
        assert refund_of(world, invoice).held_because is HoldCause.FORKED

    @pytest.mark.parametrize("kind", ["unreachable", "lost_request", "lost_answer"])
    def test_a_refund_in_flight_of_which_strike_shows_only_that_its_quote_is_old(
        self, make_world: Make, kind: str
    ) -> None:
        world = make_world(config=SimulatorConfig(is_quote_expiry_checked_first=True))
        owe(world)
        world.fault("PATCH", EXECUTE, kind, times=1)
        send(world)
        copy = take_copy(world)
        send_from_the_original(world)
        world.wait(FORGOTTEN_AFTER.total_seconds())

        go_on_with(world, copy)
        work(world)

        assert len(payouts(world)) == 1

    @pytest.mark.parametrize("is_expiry_first", [False, True])
    def test_a_refund_whose_execution_was_put_off(self, make_world: Make, *, is_expiry_first: bool) -> None:
        """Nothing was sent before the copy, and soon afterwards Strike may say no more than that the quote is old."""
        config = SimulatorConfig(is_quote_expiry_checked_first=is_expiry_first, payment_quote_seconds=300)
        world = make_world(config=config)
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "error", status=429, code="TOO_MANY_ATTEMPTS", times=1)
        send(world)
        assert not refund_of(world, invoice).is_in_doubt
        copy = take_copy(world)
        send_from_the_original(world)
        world.wait(config.payment_quote_seconds)

        go_on_with(world, copy)
        work(world)

        assert len(payouts(world)) == 1
        after = refund_of(world, invoice)
        assert after.state is RefundState.SENT or after.stuck_at is not None


class TestAtAnyMoment:
    @READS
    @pytest.mark.parametrize("fate", ["complete", "fail", "pendingfail30"])
    @pytest.mark.parametrize("hours_later", [0.5, 7])
    def test_a_copy_of_any_moment_adds_no_payment(
        self, tmp_path: Path, fate: str, hours_later: float, *, has_read: bool
    ) -> None:
        """Strike is asked for a quote at some of them, and the quote has expired when the copy starts."""
        config = SimulatorConfig(has_payment_quote_read=has_read, is_quote_expiry_checked_first=True)
        for moment in count():
            (tmp_path / str(moment)).mkdir()
            world = World.make(tmp_path / str(moment), config=config)
            config.payout_behaviours = {}
            invoice = owe(world, f"{fate}@example.com")
            moments = Moments(world, moment, partial(take_copy, world), is_inside=False)  # type: ignore[arg-type]
            send(world)
            moments.end()
            if not moments.is_over:
                world.close()
                break
            send_from_the_original(world)
            world.wait(hours_later * 3_600)

            go_on_with(world, database_of(world).with_name("copy.sqlite"))
            work(world)

            assert len(payouts(world)) == 1, moments.passed
            assert refund_of(world, invoice).state in (RefundState.SENT, RefundState.HELD, RefundState.IN_FLIGHT)
            world.close()
        assert moment >= 8


class TestOneAnswerShowsIt:
    def test_every_refund_of_the_time_before_is_held(self, world: World) -> None:
        first = owe(world)
        copy = take_copy(world)
        send(world)
        go_on_with(world, copy)
        others = [owe(world, address) for address in ("pending@example.com", None, "bob@example.com")]

        assert send(world)[RefundState.HELD] == 1

        states = [refund_of(world, invoice).state for invoice in (first, *others)]
        assert states == [RefundState.HELD, RefundState.HELD, RefundState.NEEDS_ADDRESS, RefundState.HELD]
        give_address(
            world.backend.repository, refund_of(world, others[1]).token, "bob@example.com", world.backend.clock()
        )
        assert send(world) == {RefundState.HELD: 1}
        assert len(payouts(world)) == 1

    def test_what_is_ordered_afterwards_is_refunded_without_a_person(self, world: World) -> None:
        owe(world)
        copy = take_copy(world)
        send(world)
        go_on_with(world, copy)
        send(world)

        owe(world, "bob@example.com")

        assert send(world) == {RefundState.SENT: 1}
        assert [entry.destination for entry in payouts(world)] == ["alice@example.com", "bob@example.com"]

    def test_an_invoice_that_only_another_copy_can_have_made(self, world: World) -> None:
        invoice = world.sell(ln_address="alice@example.com")
        owed = owe(world, "bob@example.com")
        copy = take_copy(world)
        lost = world.sell(ln_address="carol@example.com")
        world.pay(lost)
        world.pay(invoice, late_seconds=180)
        go_on_with(world, copy)

        main_pass(world.backend)
        send(world)

        assert [refund_of(world, one).held_because for one in (invoice, owed)] == [HoldCause.FORKED] * 2
        assert payouts(world) == []
        assert restores(world) == 1
        main_pass(world.backend)
        assert restores(world) == 1

    def test_that_is_noticed_also_after_a_restore_by_a_clock_that_was_ahead(self, world: World) -> None:
        with world.backend.repository.transaction() as tx:
            doubt_refunds(tx, world.backend.clock() + timedelta(days=30))
        invoice = world.sell(ln_address="alice@example.com")
        copy = take_copy(world)
        world.pay(world.sell(ln_address="carol@example.com"))
        world.pay(invoice, late_seconds=180)
        go_on_with(world, copy)

        for _ in range(2):
            main_pass(world.backend)
        send(world)

        assert refund_of(world, invoice).held_because is HoldCause.FORKED
        assert restores(world) == 2

    def test_invoices_of_ours_and_of_others_show_nothing(self, world: World) -> None:
        for paid in (world.sell(), world.sell(ln_address="alice@example.com")):
            world.pay(paid)
        world.fault("POST", "/v1/invoices/*/quote", "error", times=9)
        world.ask(correlation_id="draft")
        drafts = [
            one for one in world.simulator.invoices.by_id.values() if str(one.correlation_id).startswith("draft.")
        ]
        world.simulator.pay_invoice(world.simulator.invoices.quote(drafts[0]).payment_request)

        main_pass(world.backend)

        assert restores(world) == 0


def restores(world: World) -> int:
    with world.backend.repository.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT COUNT(*) FROM restores").scalar_one())


class TestAPersonDecides:
    @pytest.mark.parametrize("is_sent", [True, False])
    def test_after_a_look_at_strike(self, world: World, *, is_sent: bool) -> None:
        invoice = owe(world)
        copy = take_copy(world)
        world.simulator.config.payout_behaviours = {"*": "complete" if is_sent else "fail"}
        send(world)
        go_on_with(world, copy)
        world.simulator.config.payout_behaviours = {}
        send(world)
        assert refund_of(world, invoice).state is RefundState.HELD

        if is_sent:
            settle_by_hand(
                world.backend.repository, invoice.strike_invoice_id, "seen", frozenset(), world.backend.clock()
            )
        else:
            approve_it(world, invoice)
        work(world)

        assert refund_of(world, invoice).state is RefundState.SENT
        assert len(payouts(world)) == 1

    def test_the_history_names_the_code(self, world: World) -> None:
        invoice = owe(world)
        copy = take_copy(world)
        send(world)
        go_on_with(world, copy)

        send(world)

        lines = [(line.step, line.strike_code) for line in history(world, invoice)]
        assert lines == [("quote", "DUPLICATE_PAYMENT_QUOTE")]


class TestWithoutACopy:
    """What looks like a copy but is none."""

    def test_a_lost_answer_is_no_copy(self, world: World) -> None:
        owe(world)
        world.fault("POST", QUOTE, "lost_answer", times=2)

        drain(world)

        assert len(payouts(world)) == 1

    def test_a_process_that_dies_while_it_asks_is_none(self, world: World) -> None:
        invoice = owe(world)
        answer = world.adapter.send

        def die_in_the_quote(request: Any, *arguments: Any, **options: Any) -> Any:
            response = answer(request, *arguments, **options)
            if request.path_url == QUOTE:
                raise Crash
            return response

        setattr(world.adapter, "send", die_in_the_quote)  # noqa: B010 - mypy knows it as a method
        with contextlib.suppress(Crash):
            send(world)
        setattr(world.adapter, "send", answer)  # noqa: B010
        assert refund_of(world, invoice).asked_at is not None
        world.restart()

        work(world)

        assert len(payouts(world)) == 1

    def test_asked_long_ago_and_never_told_is_held(self, world: World) -> None:
        invoice = owe(world)
        world.fault("POST", QUOTE, "lost_answer")
        send(world)
        world.wait(FORGOTTEN_AFTER.total_seconds())

        assert send(world) == {RefundState.HELD: 1}

        assert "asked for a quote long ago" in str(refund_of(world, invoice).reason)
        approve_it(world, invoice)
        assert send(world) == {RefundState.SENT: 1}
