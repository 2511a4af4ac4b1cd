"""Deleting unpaid invoices: nothing that money or a message depends on, and no payment is missed because of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from lnpay.deliveries.send import send_due
from lnpay.domain.errors import Stopping
from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.invoices import prune
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.monitoring.overview import Attention, attention
from lnpay.monitoring.snapshot import FiguresReader
from lnpay.repository.pruned import PrunedTotal
from lnpay.repository.tables import deliveries, invoices, pruned_invoices
from lnpay.runtime.worker_passes import expired_pass, main_pass
from tests.world import ALL_EVENTS, World

DAY = 86_400


def rows(world: World) -> int:
    with world.backend.repository.engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(invoices)).scalar_one())


def known(world: World, invoice: Invoice) -> bool:
    with world.backend.repository.reading() as tx:
        return tx.invoices.find_by_strike_id(invoice.strike_invoice_id) is not None


def totals(world: World) -> list[PrunedTotal]:
    with world.backend.repository.reading() as tx:
        return tx.pruned.totals(date(2000, 1, 1), date(2100, 1, 1))


def listed(world: World) -> Attention:
    return attention(world.backend.repository, world.backend.clock())


def lapse(world: World) -> None:
    """Let every open invoice end."""
    world.wait(3_600 + 20 * 60)
    for _ in range(2):  # it expires in one pass, and lapses in the next
        expired_pass(world.backend)


def pruned_after(world: World, days: float) -> int:
    """Let so much time pass; how many invoices a pass then deletes."""
    world.wait(days * DAY)
    return expired_pass(world.backend).counts.get("pruned", 0)


class TestWhatIsDeleted:
    def test_an_unpaid_invoice_is_deleted_ninety_days_after_it_could_be_paid(self, world: World) -> None:
        invoice = world.sell()
        lapse(world)

        assert pruned_after(world, 89.9) == 0
        assert known(world, invoice)
        assert pruned_after(world, 1) == 1
        assert not known(world, invoice)

    def test_an_order_that_strike_never_issued_an_invoice_for_is_deleted_too(self, world: World) -> None:
        world.fault("POST", "/v1/invoices", "unreachable", times=None)
        world.ask()
        world.simulator.faults.remove()

        assert rows(world) == 1
        assert pruned_after(world, 91) == 1
        assert rows(world) == 0

    def test_what_was_paid_or_refunded_is_never_deleted(self, world: World) -> None:
        paid, late, waiting = (world.sell(ln_address=address) for address in ("a@b.example", "a@b.example", None))
        world.pay(paid)
        world.pay(late, late_seconds=200)
        world.pay(waiting)
        expired_pass(world.backend)
        lapse(world)

        assert pruned_after(world, 1_000) == 0
        assert all(known(world, one) for one in (paid, late, waiting))

    def test_an_invoice_that_money_was_seen_for_is_kept(self, world: World) -> None:
        invoice = world.sell()
        with world.backend.repository.transaction() as tx:
            tx.invoices.mark_seen(invoice.id, world.backend.clock())
        lapse(world)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.LAPSED
        assert pruned_after(world, 1_000) == 0

    def test_an_invoice_that_strike_lists_as_paid_is_kept(self, world: World) -> None:
        invoice = world.sell()
        lapse(world)
        with world.backend.repository.transaction() as tx:
            tx.invoices.mark_listed_paid([invoice.strike_invoice_id], world.backend.clock())

        assert pruned_after(world, 1_000) == 0

    def test_an_expired_invoice_that_is_still_watched_is_kept(self, world: World) -> None:
        invoice = world.sell()
        world.wait(300)
        main_pass(world.backend)
        world.fault("GET", "*", "error", status=503, times=None)

        world.wait(1_000 * DAY)
        expired_pass(world.backend)

        assert known(world, invoice)

    def test_a_message_that_the_shop_must_still_be_told_keeps_its_invoice(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world(delivery_events=ALL_EVENTS)
        world.simulator.shop.answer_with(500, None)
        invoice = world.sell()
        lapse(world)

        assert pruned_after(world, 91) == 0
        world.simulator.shop.answer_with(200, None)
        send_due(world.backend.outbox)
        assert pruned_after(world, 1) == 1
        assert not known(world, invoice)
        with world.backend.repository.engine.connect() as connection:
            assert connection.execute(select(func.count()).select_from(deliveries)).scalar_one() == 0

    def test_zero_days_keep_everything(self, make_world: Callable[..., World]) -> None:
        world = make_world(prune_after_days=0)
        world.sell()
        lapse(world)

        assert pruned_after(world, 5_000) == 0

    def test_our_clock_alone_deletes_nothing(self, world: World) -> None:
        invoice = world.sell()
        lapse(world)
        for skew in (400 * DAY, -400 * DAY):
            world.skew_seconds = skew
            world.restart()
            expired_pass(world.backend)

        assert known(world, invoice)

    def test_without_strikes_time_nothing_is_deleted(self, world: World) -> None:
        world.sell()
        lapse(world)
        world.wait(100 * DAY)
        world.restart()

        assert prune.prune(world.backend.sweep_settlement, world.simulator.clock.now().timestamp(), 90) == 0
        assert rows(world) == 1


class TestInBoundedSteps:
    def test_a_pass_deletes_so_many_and_the_next_goes_on(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("BATCH", 2), ("MOST_PRUNED", 4)):
            monkeypatch.setattr(prune, name, value)
        for _ in range(5):
            world.sell()
        lapse(world)

        assert pruned_after(world, 91) == 4
        assert pruned_after(world, 0) == 1
        assert sum(one.invoices for one in totals(world)) == 5

    def test_it_is_looked_for_every_six_hours(self, world: World) -> None:
        world.sell()
        lapse(world)
        world.wait(89.95 * DAY)
        expired_pass(world.backend)

        assert pruned_after(world, 0.2) == 0
        assert pruned_after(world, 0.1) == 1

    def test_a_worker_that_is_asked_to_end_does(self, world: World) -> None:
        world.sell()
        lapse(world)
        world.wait(91 * DAY)
        world.backend.strike.measure_time()
        world.backend.stop.set()

        with pytest.raises(Stopping):
            prune.prune(world.backend.sweep_settlement, 0.0, 90)


class TestWhatIsKept:
    def test_count_and_sums_by_day_currency_and_final_state(self, world: World) -> None:
        sold = [world.sell(amount_fiat=amount) for amount in ("1.10", "2.20")]
        world.fault("POST", "/v1/invoices", "unreachable", times=None)
        world.ask(amount_fiat="5.00")
        world.simulator.faults.remove()
        day = world.backend.clock().astimezone(UTC).date()
        lapse(world)

        pruned_after(world, 91)

        lapsed = PrunedTotal(day, "usd", "lapsed", 2, sum(one.amount_sats for one in sold), Decimal("3.30"))
        draft = totals(world)[0]
        assert totals(world) == [draft, lapsed]
        assert (draft.state, draft.invoices, draft.amount_fiat) == ("draft", 1, Decimal("5.00"))

    def test_figures_still_count_them(self, world: World) -> None:
        world.sell()
        lapse(world)
        before = FiguresReader(world.backend.repository, world.clock).read().invoices

        assert pruned_after(world, 91) == 1

        assert FiguresReader(world.backend.repository, world.clock).read().invoices == before
        assert before[InvoiceState.LAPSED] == 1

    def test_an_order_may_come_again_under_its_id(self, world: World) -> None:
        first = world.sell(correlation_id="order-1")
        lapse(world)
        pruned_after(world, 91)

        again = world.sell(correlation_id="order-1")

        assert again.strike_invoice_id != first.strike_invoice_id


class TestAPaymentAfterAll:
    @pytest.fixture
    def deleted(self, world: World) -> Invoice:
        """An invoice that was deleted, and is then paid at the provider against all expectation."""
        world.subscribe()
        invoice = make_deleted(world, correlation_id="4001-1", order_id="4001")
        world.pump()
        return invoice

    def pay(self, world: World, invoice: Invoice) -> None:
        at_strike = world.simulator.invoices.by_id[invoice.strike_invoice_id]
        at_strike.quotes[-1].expires_at = world.simulator.now() + timedelta(hours=1)
        world.pay(invoice)

    def test_strikes_call_brings_it_to_the_operators_list(self, world: World, deleted: Invoice) -> None:
        self.pay(world, deleted)

        assert set(world.pump()) == {200}

        (found,) = listed(world).pruned
        assert (found.strike_invoice_id, found.order_id) == (deleted.strike_invoice_id, "4001")
        assert (found.received_sats, found.found_paid_at) == (deleted.amount_sats, world.backend.clock())
        assert listed(world).count == 1

    def test_the_list_of_paid_invoices_brings_it_too(self, world: World, deleted: Invoice) -> None:
        self.pay(world, deleted)
        world.sell()

        expired_pass(world.backend)

        assert [one.strike_invoice_id for one in listed(world).pruned] == [deleted.strike_invoice_id]

    def test_the_operators_page_shows_it(self, make_world: Callable[..., World]) -> None:
        world = make_world(admin_password="a password of the tests")
        invoice = make_deleted(world)
        with world.backend.repository.transaction() as tx:
            tx.pruned.mark_paid(invoice.strike_invoice_id, received_sats=None, at=world.backend.clock())

        world.client.post("/admin/login", data={"password": "a password of the tests"})
        page = world.client.get("/admin").text

        assert "Deleted orders that were paid" in page
        assert invoice.strike_invoice_id in page

    def test_it_is_noted_once(self, world: World, deleted: Invoice) -> None:
        self.pay(world, deleted)
        assert reconcile_invoice(world.backend.settlement, deleted.strike_invoice_id) is Outcome.ALREADY
        first = listed(world).pruned

        world.wait(DAY)
        world.pump()
        reconcile_invoice(world.backend.settlement, deleted.strike_invoice_id)

        assert listed(world).pruned == first
        world.wait(90 * DAY)
        assert listed(world).pruned == []

    def test_a_call_about_one_that_is_not_paid_changes_nothing(self, world: World, deleted: Invoice) -> None:
        world.simulator.webhooks.emit("invoice.updated", deleted.strike_invoice_id, ["state"])

        assert world.pump() == [503]
        world.wait(40)
        assert world.pump() == [200]
        assert listed(world).pruned == []

    @pytest.mark.parametrize("is_cancelled", [False, True])
    def test_strikes_call_brings_it_though_reads_lag(self, world: World, deleted: Invoice, is_cancelled: bool) -> None:
        world.simulator.config.update({"is_payable_after_cancel": True, "invoice_read_lag_seconds": 8})
        if is_cancelled:
            world.simulator.invoices.cancel(world.simulator.invoices.by_id[deleted.strike_invoice_id])
            world.wait(40)
            assert set(world.pump()) == {200}
        self.pay(world, deleted)

        assert world.pump()[-1] == 503
        world.wait(9)
        assert world.pump()[-1] == 200
        assert [one.strike_invoice_id for one in listed(world).pruned] == [deleted.strike_invoice_id]

    def test_a_payment_in_the_moment_of_deleting_is_noted(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """The call has read the invoice when the worker deletes it."""
        invoice = world.sell()
        lapse(world)
        self.pay(world, invoice)
        at_strike = world.backend.strike.get_invoice(invoice.strike_invoice_id)
        from lnpay.invoices import settle
        from lnpay.repository.invoices import Invoices

        def mark_paid(rows: Invoices, *_: object, **__: object) -> bool:
            gone = invoices.delete().where(invoices.c.id == invoice.id)
            rows._connection.execute(gone)
            rows._connection.execute(
                pruned_invoices.insert().values(
                    strike_invoice_id=invoice.strike_invoice_id, correlation_id="x", amount_sats=invoice.amount_sats,
                    currency="usd", amount_fiat=Decimal(1), opened_at=invoice.created_at, pruned_at=invoice.created_at,
                )
            )  # fmt: skip
            return False

        monkeypatch.setattr(Invoices, "mark_paid", mark_paid)

        assert settle.settle(world.backend.settlement, at_strike) is Outcome.ALREADY
        assert len(listed(world).pruned) == 1


def make_deleted(world: World, **fields: str) -> Invoice:
    """An invoice that was deleted."""
    invoice = world.sell(**fields)
    lapse(world)
    assert pruned_after(world, 91) == 1
    return invoice
