"""Payments of receive requests that are unusual: deleted invoices, missing prices, unreadable rows, odd amounts."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from lnpay.domain.errors import StrikeAmbiguous, StrikeError, UnreadableRow
from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice
from lnpay.domain.money import BTC, CurrencyAmount
from lnpay.domain.states import InvoiceState, LatePayments, RefundKind, RefundState
from lnpay.invoices.late import PRICE_PATIENCE
from lnpay.invoices.receives import count_sats, end_underpaid, reconcile_request
from lnpay.invoices.settle import Outcome
from lnpay.invoices.sweep import expire_due, sweep
from lnpay.monitoring.overview import attention
from lnpay.runtime.worker_passes import expired_pass, main_pass
from tests.integration.receiving.conftest import Open
from tests.integration.receiving.test_receives import events_of, pay, receives_of, refunds_of
from tests.world import World

ADDRESS = "customer@wallet.example"
DAY = 86_400


def look(world: World, request_id: str) -> Outcome:
    return reconcile_request(world.backend.settlement, request_id)


class TestDeleted:
    def deleted(self, shop: World) -> Invoice:
        """An invoice that was deleted and can still be paid."""
        shop.simulator.config.receive_grace_seconds = 1_000 * DAY
        invoice = shop.sell()
        shop.wait(3_600 + 20 * 60)
        for _ in range(2):
            expired_pass(shop.backend)
        shop.wait(100 * DAY)
        expired_pass(shop.backend)
        with shop.backend.repository.reading() as tx:
            assert tx.invoices.find_by_strike_id(invoice.strike_invoice_id) is None
        return invoice

    @pytest.mark.parametrize("has_receive_id", [True, False])
    @pytest.mark.parametrize("pending_seconds", [0, 900])
    def test_its_event_brings_a_payment_though_reads_lag(
        self, open_world: Open, has_receive_id: bool, pending_seconds: int
    ) -> None:
        shop = open_world(delivery_events=frozenset([EventType.INVOICE_SETTLED]))
        shop.simulator.config.update({"has_receive_id_in_events": has_receive_id, "receive_read_lag_seconds": 8})
        shop.subscribe()
        invoice = self.deleted(shop)
        shop.pump()
        pay(shop, invoice, pending_seconds=pending_seconds)
        shop.wait(pending_seconds)

        assert shop.pump()[-1] == 503
        shop.wait(9)
        assert shop.pump()[-1] == 200
        assert len(attention(shop.backend.repository, shop.backend.clock()).pruned) == 1

    @pytest.mark.parametrize("is_final", [True, False])
    def test_a_payment_of_a_deleted_invoice_is_kept_for_the_operator(self, open_world: Open, is_final: bool) -> None:
        shop = open_world(delivery_events=frozenset([EventType.INVOICE_SETTLED]))
        invoice = self.deleted(shop)
        pay(shop, invoice, pending_seconds=0 if is_final else 900)

        assert look(shop, invoice.strike_invoice_id) is Outcome.ALREADY
        assert look(shop, invoice.strike_invoice_id) is Outcome.ALREADY

        counted = attention(shop.backend.repository, shop.backend.clock())
        assert len(counted.pruned) == (1 if is_final else 0)

    def test_a_request_that_was_never_ours_is_not_recorded(self, shop: World) -> None:
        stranger = shop.backend.strike.receive_requests.create(1_000, None, 600, BTC)
        shop.simulator.pay_invoice(stranger.bolt11)

        assert look(shop, stranger.request_id) is Outcome.ALREADY
        assert not attention(shop.backend.repository, shop.backend.clock()).pruned

    def test_a_request_without_payments_that_was_never_ours_changes_nothing(self, shop: World) -> None:
        stranger = shop.backend.strike.receive_requests.create(1_000, None, 600, BTC)

        assert look(shop, stranger.request_id) is Outcome.NOT_PAID


class TestPriceOfALatePayment:
    def test_it_is_waited_for_and_then_the_payment_is_refunded(self, open_world: Open) -> None:
        shop = open_world(late_payments=LatePayments.ACCEPT)
        shop.simulator.config.receive_grace_seconds = 3_600
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, late_seconds=180)
        for path in ("/coingecko/*", "/coinbase/*", "/v1/rates/*"):
            shop.fault("GET", path, "error", status=500, times=50)

        assert look(shop, invoice.strike_invoice_id) is Outcome.NOT_FINAL
        assert receives_of(shop, invoice) == []
        shop.wait(PRICE_PATIENCE.total_seconds())
        assert look(shop, invoice.strike_invoice_id) is Outcome.PAID_LATE

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    def test_a_held_payment_waits_for_the_operator(self, open_world: Open) -> None:
        shop = open_world(late_payments=LatePayments.HOLD)
        shop.simulator.config.receive_grace_seconds = 3_600
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, late_seconds=180)

        assert look(shop, invoice.strike_invoice_id) is Outcome.PAID_LATE

        assert [one.state for one in refunds_of(shop, invoice)] == [RefundState.HELD]


class TestUnreadable:
    def test_a_row_that_cannot_be_read_leaves_the_invoice_open(self, shop: World) -> None:
        invoice = shop.sell()
        pay(shop, invoice)
        shop.fault(
            "GET", "/v1/receive-requests/*", "field_changed", field="items.0.state", value="REVERSED", times=None
        )

        with pytest.raises(StrikeAmbiguous, match="not all readable"):
            look(shop, invoice.strike_invoice_id)
        shop.wait(4_000)
        expired_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        shop.simulator.faults.remove()
        main_pass(shop.backend)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED

    @pytest.mark.parametrize("kind", ["error", "unreachable", "lost_answer", "rate_limited", "garbage", "html403"])
    def test_a_read_that_fails_changes_nothing(self, shop: World, kind: str) -> None:
        invoice = shop.sell()
        pay(shop, invoice)
        shop.fault("GET", "/v1/receive-requests/*", kind, status=503)

        with pytest.raises(StrikeError):
            look(shop, invoice.strike_invoice_id)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        assert receives_of(shop, invoice) == []


class TestCounting:
    @pytest.mark.parametrize(
        ("received", "credited", "sats"),
        [
            (("0.00001", "BTC"), None, 1_000),
            (("12.34", "USD"), None, "price"),
            (("12.10", "USD"), ("99", "EUR"), "price"),
            (("6.17", "USD"), None, "half"),
            (("5", "EUR"), ("6.17", "USD"), "half"),
            (("0.0000001", "USD"), None, 1),
            (("9000000000000000", "USD"), None, 1),
            (("5", "EUR"), ("0.00001", "BTC"), 1_000),
            (("5", "EUR"), ("0.00001000999", "BTC"), 1_000),
            (("0.01", "EUR"), ("0.00000000999", "BTC"), 1),
            (("0.01", "USD"), None, 15),
            (("5", "EUR"), ("5", "GBP"), "price"),
            (("5", "EUR"), None, "price"),
        ],
    )
    def test_a_payment_counts_exactly_or_as_the_price_that_a_strike_user_was_asked_for(
        self, world: World, received: tuple[str, str], credited: tuple[str, str] | None, sats: int | str
    ) -> None:
        invoice = world.sell()
        paid = CurrencyAmount(Decimal(received[0]), received[1])
        got = None if credited is None else CurrencyAmount(Decimal(credited[0]), credited[1])

        counted = count_sats(invoice, paid, got)

        if sats == "half":
            assert abs(2 * counted - invoice.amount_sats) <= 2
        else:
            assert counted == (invoice.amount_sats if sats == "price" else sats)


class TestUnreadableRows:
    """What is owed is never computed without a row that cannot be read."""

    def spoil(self, shop: World, sql: str) -> None:
        with shop.backend.repository.engine.begin() as connection:
            connection.execute(text(sql))

    def test_a_second_payment_waits_until_the_first_can_be_read(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        main_pass(shop.backend)
        self.spoil(shop, "UPDATE receives SET received_amount = 'much'")
        pay(shop, invoice)
        with pytest.raises(UnreadableRow):
            look(shop, invoice.strike_invoice_id)

        self.spoil(shop, "UPDATE receives SET received_amount = credited_amount")
        look(shop, invoice.strike_invoice_id)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats]

    def test_a_refund_that_cannot_be_read_is_not_owed_again(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        for _ in range(2):
            pay(shop, invoice)
        main_pass(shop.backend)
        self.spoil(shop, "UPDATE refunds SET amount_fiat = 'much'")
        pay(shop, invoice)
        with pytest.raises(UnreadableRow):
            look(shop, invoice.strike_invoice_id)

        self.spoil(shop, "UPDATE refunds SET amount_fiat = NULL")
        look(shop, invoice.strike_invoice_id)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [invoice.amount_sats] * 2

    def test_a_part_that_cannot_be_read_keeps_its_invoice_open_and_no_other(self, shop: World) -> None:
        invoice, other = shop.sell(ln_address=ADDRESS), shop.sell()
        pay(shop, invoice, 500)
        main_pass(shop.backend)
        self.spoil(shop, "UPDATE receives SET received_amount = 'much'")
        shop.wait(600)
        found = sweep(shop.backend.sweep_settlement, lambda: 900)
        found.looked_at |= {invoice.strike_invoice_id, other.strike_invoice_id}
        found.unclear.clear()

        assert expire_due(shop.backend.sweep_settlement, found) == 1

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        assert shop.invoice(other.strike_invoice_id).state is InvoiceState.EXPIRED
        assert refunds_of(shop, invoice) == []


class TestAStrikeUserInAThirdCurrency:
    """Neither the price of the sale nor the credit says what the payment is worth in bitcoin."""

    @pytest.fixture
    def shop(self, open_world: Open) -> World:
        shop = open_world(currency="cad", settle_in="USD")
        shop.simulator.config.strike_user_currency = "USD"
        return shop

    def test_a_fraction_of_the_price_neither_settles_nor_is_refunded_as_the_price(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, 50, is_strike_user=True)
        main_pass(shop.backend)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID

        pay(shop, invoice)
        main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert sum(one.amount_sats for one in refunds_of(shop, invoice)) <= 50

    @pytest.mark.parametrize("percent", [85, 100, 115])
    def test_what_was_asked_for_settles_though_the_price_has_moved(self, shop: World, percent: int) -> None:
        invoice = shop.sell()
        pay(shop, invoice, is_strike_user=True)
        shop.simulator.rates.set_price("usd", shop.backend.issuer.rates.current("usd").price * percent / 100)
        shop.wait(300)
        main_pass(shop.backend)

        settled = shop.invoice(invoice.strike_invoice_id)
        assert (settled.state, settled.received_sats) == (InvoiceState.SETTLED, invoice.amount_sats)

    @pytest.mark.parametrize("user", ["USDT", "AUD"])
    def test_every_currency_of_strikes_has_a_price(self, shop: World, user: str) -> None:
        shop.simulator.config.strike_user_currency = user
        invoice = shop.sell()
        pay(shop, invoice, 500, is_strike_user=True)
        main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        assert [abs(one.amount_sats - 500) <= 50 for one in receives_of(shop, invoice)] == [True]

    @pytest.mark.parametrize("is_known", [True, False])
    def test_without_a_price_it_counts_as_what_was_asked_for(self, shop: World, *, is_known: bool) -> None:
        invoice = shop.sell()
        pay(shop, invoice, is_strike_user=True)
        if is_known:
            for path in ("/coingecko/*", "/coinbase/*", "/v1/rates/*"):
                shop.fault("GET", path, "error", status=500, times=None)
            shop.wait(600)
        else:
            receive = list(shop.simulator.receive_requests.receives.values())[-1]
            receive.oddities = {"amountReceived": {"amount": "5", "currency": "XYZ"}}
        look(shop, invoice.strike_invoice_id)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED


class TestFractionsOfASat:
    """Payments are counted to the millisat: a fraction is never a sat, however many there are."""

    def pay_each(self, shop: World, invoice: Invoice, *amounts: str) -> None:
        for amount in amounts:
            pay(shop, invoice, 1)
            receive = list(shop.simulator.receive_requests.receives.values())[-1]
            receive.oddities = {"amountReceived": {"amount": amount, "currency": BTC}}
        look(shop, invoice.strike_invoice_id)

    def test_many_of_them_are_not_the_price_and_are_kept(self, open_world: Open) -> None:
        shop = open_world(delivery_events=frozenset([EventType.INVOICE_SETTLED]))
        invoice = shop.sell(amount_fiat="0.02", ln_address=ADDRESS)
        self.pay_each(shop, invoice, *["0.00000000001"] * invoice.amount_sats)
        for seconds in (4_000, 100 * DAY):
            shop.wait(seconds)
            for _ in range(2):
                expired_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.LAPSED
        assert refunds_of(shop, invoice) == []

    def test_together_they_are_the_price(self, shop: World) -> None:
        invoice = shop.sell(amount_fiat="0.01")
        halves = f"0.{invoice.amount_sats * 500:011d}"
        self.pay_each(shop, invoice, halves, halves)

        settled = shop.invoice(invoice.strike_invoice_id)
        assert (settled.state, settled.received_sats) == (InvoiceState.SETTLED, invoice.amount_sats)

    def test_only_whole_sats_are_refunded(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice)
        self.pay_each(shop, invoice, *["0.00000010001"] * 3)

        assert [one.amount_sats for one in refunds_of(shop, invoice)] == [30]
        assert shop.invoice(invoice.strike_invoice_id).received_sats == invoice.amount_sats + 30


class TestUnderpaidAtTheEnd:
    def test_an_invoice_without_a_payment_is_not_moved(self, shop: World) -> None:
        invoice = shop.sell()
        with shop.backend.repository.transaction() as tx:
            assert not end_underpaid(shop.backend.settlement, tx, invoice, shop.backend.clock())

    def test_one_that_has_moved_since_or_is_gone_is_left_as_it_is(self, shop: World) -> None:
        invoice = shop.sell()
        pay(shop, invoice)
        main_pass(shop.backend)
        with shop.backend.repository.transaction() as tx:
            assert not end_underpaid(shop.backend.settlement, tx, invoice, shop.backend.clock())
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        with shop.backend.repository.engine.begin() as connection:
            connection.execute(text("UPDATE invoices SET receive_with = 'invoice'"))
        with shop.backend.repository.transaction() as tx:
            assert not end_underpaid(shop.backend.settlement, tx, invoice, shop.backend.clock())


class TestOwing:
    def test_an_overpayment_without_an_address_asks_for_one(self, shop: World) -> None:
        invoice = shop.sell()
        pay(shop, invoice)
        main_pass(shop.backend)
        pay(shop, invoice)
        look(shop, invoice.strike_invoice_id)

        (refund,) = refunds_of(shop, invoice)
        assert (refund.kind, refund.state) == (RefundKind.OVERPAID, RefundState.NEEDS_ADDRESS)
        assert events_of(shop, invoice).count(EventType.REFUND_NEEDS_ADDRESS) == 1

    def test_a_part_that_is_announced_once_is_announced_again_only_with_a_further_payment(self, shop: World) -> None:
        invoice = shop.sell()
        pay(shop, invoice, 100)
        for _ in range(3):
            main_pass(shop.backend)

        assert events_of(shop, invoice) == [EventType.INVOICE_UNDERPAID]

    def test_a_part_whose_rest_is_pending_at_the_deadline_settles_when_it_is_final(self, shop: World) -> None:
        invoice = shop.sell(ln_address=ADDRESS)
        pay(shop, invoice, 100)
        pay(shop, invoice, invoice.amount_sats - 100, pending_seconds=900)
        assert look(shop, invoice.strike_invoice_id) is Outcome.NOT_FINAL
        shop.wait(600)
        main_pass(shop.backend)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        shop.wait(301)
        main_pass(shop.backend)

        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert refunds_of(shop, invoice) == []

    def test_a_credit_in_another_currency_is_kept_with_its_rate(self, open_world: Open) -> None:
        shop = open_world(settle_in="EUR")
        invoice = shop.sell()
        pay(shop, invoice)
        main_pass(shop.backend)

        settled = shop.invoice(invoice.strike_invoice_id)
        assert settled.credited is not None
        assert settled.conversion_rate is not None
        exact = Decimal(invoice.amount_sats) * settled.conversion_rate / 100_000_000
        assert settled.credited.currency == "EUR"
        assert abs(settled.credited.amount - exact) <= Decimal("0.01")
        shown = shop.client.get(f"/invoices/{invoice.strike_invoice_id}").get_json()["credited"]
        assert shown["currency"] == "EUR"
        assert Decimal(shown["amount"]) == settled.credited.amount

    def test_a_payment_just_before_the_deadline_of_a_fast_clock_is_in_time(self, shop: World) -> None:
        invoice = shop.sell()
        shop.skew_seconds = timedelta(minutes=10).total_seconds()
        pay(shop, invoice)

        assert look(shop, invoice.strike_invoice_id) is Outcome.SETTLED
