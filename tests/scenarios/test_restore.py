"""A backup becomes the database. What was sent since it was taken is not sent again: the provider's ledger says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState, RefundState
from lnpay.refunds.after_restore import QUOTES_LAST, doubt_refunds, notice_restore
from lnpay.refunds.by_hand import (
    approve,
    change_address,
    give_address,
    settle_by_hand,
)
from lnpay.repository import Repository
from lnpay.repository.limits import RESTORED
from lnpay.repository.maintenance.backup import back_up, restore
from lnpay.runtime.worker_passes import expired_pass, refund_pass
from lnpay.sandbox.config import SimulatorConfig
from tests.owing import EXECUTE, QUOTE, Moments, executions, history, owe, payouts, refund_of, send
from tests.scenarios.afterwards import finish, work
from tests.world import ALL_EVENTS, World

Make = Callable[..., World]


def database_of(world: World) -> Path:
    return Path(world.database_url.removeprefix("sqlite:///"))


def take_backup(world: World) -> Path:
    """A backup of this moment, while the backend goes on."""
    database = database_of(world)
    return back_up(database, backup_of(world), world.backend.clock()).path


def backup_of(world: World) -> Path:
    return database_of(world).with_name("backup.sqlite")


def keep_backup(world: World) -> None:
    take_backup(world)


def put_back(world: World, backup: Path) -> None:
    """Stop everything, make the backup the database, start a new process."""
    world.backend.close()
    restore(backup, database_of(world), world.backend.clock())
    world.restart()


def pay_late(world: World) -> Invoice:
    """The customer pays too late, and LNPay does not know yet."""
    invoice = world.sell(ln_address="alice@example.com")
    world.pay(invoice, late_seconds=180)
    return invoice


def approve_again(world: World, invoice: Invoice) -> None:
    approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())


class TestARefundThatWasSentSinceTheBackup:
    def test_it_is_not_sent_again_when_a_sweep_finds_its_late_payment_once_more(self, world: World) -> None:
        invoice = world.sell(ln_address="alice@example.com")
        backup = take_backup(world)
        world.pay(invoice, late_seconds=180)
        work(world, hours=0.1)
        assert len(payouts(world)) == 1

        put_back(world, backup)
        assert world.refund(invoice) is None
        work(world)

        refund = refund_of(world, invoice)
        assert len(payouts(world)) == 1
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE
        assert refund.state is RefundState.HELD
        assert refund.reason is not None
        assert "was restored from a backup of 2026-01-01" in refund.reason
        assert "refunds settle" in refund.reason

    def test_the_worker_says_that_a_person_is_needed(self, world: World) -> None:
        invoice = pay_late(world)
        backup = take_backup(world)
        work(world, hours=0.1)

        put_back(world, backup)
        expired_pass(world.backend)

        assert refund_pass(world.backend).trouble == (
            "1 held and 0 unclear refunds wait for you: python main.py refunds list"
        )
        assert refund_of(world, invoice).state is RefundState.HELD

    def test_a_person_who_found_it_at_strike_settles_it(self, make_world: Make) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        invoice = pay_late(world)
        backup = take_backup(world)
        work(world, hours=0.1)
        put_back(world, backup)
        work(world, hours=0.1)

        repository, clock = world.backend.repository, world.backend.clock
        settle_by_hand(repository, invoice.strike_invoice_id, "in the dashboard", ALL_EVENTS, clock())
        work(world)

        assert refund_of(world, invoice).state is RefundState.SENT
        assert len(payouts(world)) == 1

    def test_a_customer_who_gives_an_address_once_more_gets_nothing_twice(self, world: World) -> None:
        invoice = owe(world, None)
        backup = take_backup(world)
        token = refund_of(world, invoice).token
        give_address(world.backend.repository, token, "bob@example.com", world.backend.clock())
        work(world, hours=0.1)
        assert len(payouts(world)) == 1

        put_back(world, backup)
        give_address(world.backend.repository, token, "mallory@example.com", world.backend.clock())
        work(world)

        assert refund_of(world, invoice).state is RefundState.HELD
        assert len(payouts(world)) == 1

    def test_an_approval_of_before_the_backup_does_not_count(self, make_world: Make) -> None:
        world = make_world(refunds_enabled=False)
        invoice = owe(world)
        send(world)
        approve_again(world, invoice)
        backup = take_backup(world)
        send(world)
        assert len(payouts(world)) == 1

        put_back(world, backup)
        work(world)

        assert refund_of(world, invoice).state is RefundState.HELD
        assert len(payouts(world)) == 1

    def test_one_that_a_limit_held_says_what_to_look_for_before_it_is_approved(self, make_world: Make) -> None:
        world = make_world(refunds_enabled=False)
        invoice = owe(world)
        send(world)
        backup = take_backup(world)
        approve_again(world, invoice)
        send(world)

        put_back(world, backup)

        assert "may have been sent already" in str(refund_of(world, invoice).reason)

    def test_one_that_failed_in_the_backup_and_was_sent_since_is_held(self, world: World) -> None:
        invoice = owe(world, "fail@example.com")
        send(world)
        assert refund_of(world, invoice).state is RefundState.FAILED
        backup = take_backup(world)
        change_address(world.backend.repository, invoice.strike_invoice_id, "bob@example.com", world.backend.clock())
        send(world)
        assert len(payouts(world)) == 1

        put_back(world, backup)
        world.simulator.config.payout_behaviours = {"*": "complete"}
        work(world)

        assert refund_of(world, invoice).state is RefundState.HELD
        assert len(payouts(world)) == 1

    def test_a_payment_in_flight_that_failed_since_gets_no_new_one(self, world: World) -> None:
        invoice = owe(world, "pendingfail30@example.com")
        send(world)
        assert refund_of(world, invoice).payment_id is not None
        backup = take_backup(world)
        world.simulator.config.payout_behaviours = {"*": "complete"}
        work(world, hours=0.5)
        assert len(payouts(world)) == 1

        put_back(world, backup)
        work(world)

        assert refund_of(world, invoice).state is RefundState.HELD
        assert len(payouts(world)) == 1


OBSTACLES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "refused once": ("PATCH", EXECUTE, "error", {"status": 422, "code": "BALANCE_TOO_LOW"}),
    "the first quote's answer is lost": ("POST", QUOTE, "lost_answer", {}),
    "the execution's answer is lost": ("PATCH", EXECUTE, "lost_answer", {}),
}


class TestABackupOfAnyMoment:
    """Taken before and after each commit and each call of a refund; put back when the refund was sent."""

    @pytest.mark.parametrize(
        ("fate", "obstacle", "days_ahead"),
        [
            *(("complete", None, 0), ("pendingfail30", None, 0), ("fail", None, 0)),
            *(("complete", one, 0) for one in OBSTACLES),
            # The clock of the machine on which it is put back is behind.
            ("complete", "refused once", -2),
        ],
    )
    def test_it_never_leads_to_a_second_payment(
        self, tmp_path: Path, fate: str, obstacle: str | None, days_ahead: int
    ) -> None:
        for moment in count():
            (tmp_path / str(moment)).mkdir()
            # Quotes that are valid for long are the danger: an old one could still pay.
            world = World.make(tmp_path / str(moment), config=SimulatorConfig(payment_quote_seconds=3_500))
            invoice = owe(world, f"{fate}@example.com")
            if obstacle is not None:
                method, path, kind, more = OBSTACLES[obstacle]
                world.fault(method, path, kind, times=1, **more)
            moments = Moments(world, moment, partial(keep_backup, world), is_inside=True)
            send(world)
            moments.end()
            finish(world)
            assert len(payouts(world)) == 1, moments.passed
            if not moments.is_over:
                world.close()
                break

            world.skew_seconds = days_ahead * 86_400
            put_back(world, backup_of(world))
            work(world)

            assert len(payouts(world)) == 1, moments.passed
            assert refund_of(world, invoice).state in (RefundState.HELD, RefundState.SENT, RefundState.IN_FLIGHT), (
                moments.passed
            )
            world.close()
        assert moment >= 5


class TestAfterwards:
    def test_what_was_not_sent_is_sent_once_when_it_is_approved(self, world: World) -> None:
        invoice = owe(world)
        backup = take_backup(world)
        put_back(world, backup)
        work(world)
        assert payouts(world) == []

        approve_again(world, invoice)
        work(world)

        assert refund_of(world, invoice).state is RefundState.SENT
        assert len(payouts(world)) == 1
        assert [line.step for line in history(world, invoice)] == ["restore", "by hand", "execute"]

    def test_a_payment_of_later_is_refunded_without_a_person(self, world: World) -> None:
        put_back(world, take_backup(world))

        invoice = owe(world)
        send(world)

        assert refund_of(world, invoice).state is RefundState.SENT

    def test_an_order_of_before_that_is_paid_after_is_held(self, world: World) -> None:
        invoice = world.sell(ln_address="alice@example.com")
        put_back(world, take_backup(world))
        world.pay(invoice, late_seconds=1_800)

        work(world, hours=0.1)

        assert refund_of(world, invoice).state is RefundState.HELD

    def test_an_order_that_is_lost_and_comes_again_is_held(self, world: World) -> None:
        """The shop repeats it, and Strike leads back to its invoice, which was paid late and refunded."""
        backup = take_backup(world)
        invoice = world.sell(ln_address="alice@example.com", correlation_id="lost")
        world.pay(invoice, late_seconds=180)
        work(world, hours=0.1)
        assert len(payouts(world)) == 1
        put_back(world, backup)
        world.wait(1)

        world.ask(ln_address="alice@example.com", correlation_id="lost")
        work(world)

        assert len(payouts(world)) == 1

    @pytest.mark.parametrize("clock_is_wrong_by", [timedelta(days=-30), timedelta(days=30)])
    def test_it_does_not_rest_on_the_clock_of_the_new_machine(self, world: World, clock_is_wrong_by: timedelta) -> None:
        invoice = owe(world)
        backup = take_backup(world)
        work(world, hours=0.1)
        world.backend.close()
        restore(backup, database_of(world), world.simulator.clock.now() + clock_is_wrong_by)
        repository = Repository(world.database_url)
        notice_restore(repository, world.simulator.clock.now() + clock_is_wrong_by)
        repository.close()

        world.restart()
        work(world)

        assert refund_of(world, invoice).state is RefundState.HELD
        assert len(payouts(world)) == 1

    def test_an_old_quote_is_left_alone_until_it_can_send_nothing(self, world: World) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_request", times=3)
        send(world)
        assert refund_of(world, invoice).state is RefundState.IN_FLIGHT
        put_back(world, take_backup(world))

        assert send(world) == {}
        world.wait(QUOTES_LAST.total_seconds())
        send(world)

        assert executions(world) == ["PAYMENT_QUOTE_EXPIRED"]
        assert payouts(world) == []

    def test_it_begins_once_however_many_programs_start(self, world: World) -> None:
        backup = take_backup(world)
        put_back(world, backup)
        began_at = milestone(world)

        world.wait(60)
        world.restart()

        assert milestone(world) == began_at

    def test_a_backup_of_a_restored_database_is_a_new_one(self, world: World) -> None:
        put_back(world, take_backup(world))
        world.wait(60)
        second = take_backup(world)
        world.wait(60)

        put_back(world, second)

        assert milestone(world) == world.backend.clock()

    @pytest.mark.parametrize("clock_was_wrong_by", [timedelta(hours=-2), timedelta(hours=2), timedelta(days=30)])
    def test_a_later_backup_is_noticed_although_the_clock_was_wrong_at_the_restore_before(
        self, world: World, clock_was_wrong_by: timedelta
    ) -> None:
        first = take_backup(world)
        world.backend.close()
        restore(first, database_of(world), world.simulator.clock.now() + clock_was_wrong_by)
        repository = Repository(world.database_url)
        notice_restore(repository, world.simulator.clock.now() + clock_was_wrong_by)
        repository.close()
        world.restart()
        world.wait(60)
        invoice = owe(world)
        second = take_backup(world)
        send(world)
        noticed_before = milestone(world)
        assert noticed_before is not None

        world.backend.close()
        shutil.copy(second, database_of(world))
        world.restart()
        assert refund_of(world, invoice).state is RefundState.HELD
        noticed = milestone(world)
        assert noticed is not None
        assert noticed > noticed_before
        work(world)

        assert len(payouts(world)) == 1


def milestone(world: World) -> datetime | None:
    with world.backend.repository.reading() as tx:
        return tx.limits.milestone(RESTORED)


class TestInOtherWays:
    def test_a_backup_that_a_person_copies_into_place_is_noticed(self, world: World) -> None:
        invoice = pay_late(world)
        backup = take_backup(world)
        work(world, hours=0.1)

        world.backend.close()
        shutil.copy(backup, database_of(world))
        world.restart()
        work(world)

        assert len(payouts(world)) == 1
        assert refund_of(world, invoice).state is RefundState.HELD

    def test_the_database_that_was_put_aside_is_a_backup_too(self, world: World) -> None:
        backup = take_backup(world)
        world.backend.close()
        aside = restore(backup, database_of(world), world.backend.clock()).aside
        assert aside is not None
        world.restart()
        world.wait(60)

        put_back(world, aside)

        assert milestone(world) == world.backend.clock()

    def test_a_database_that_other_tools_put_back_is_marked_by_hand(self, make_world: Make, database_url: str) -> None:
        world = make_world(database_url=database_url)
        invoice = owe(world)
        with world.backend.repository.transaction() as tx:
            doubt_refunds(tx, world.backend.clock())

        assert send(world) == {}

        assert str(refund_of(world, invoice).reason).startswith("the database was restored from a backup, so")
