"""Invoices in any currency: each with a price of its own, bitcoin without one, and no more calls than for one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal

import pytest

from lnpay.domain.errors import InvalidRequest, OrderConflict, RateUnavailable
from lnpay.domain.model import Invoice, Order, Rate
from lnpay.domain.money import CURRENCIES, parse_fiat, read_currency, sats_to_fiat
from lnpay.domain.states import InvoiceState
from lnpay.invoices.create import check_expires_in, create_invoice
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.rates.sources import Prices, RateSourceError, SharedSource
from tests.world import World

START = datetime(2026, 1, 1, tzinfo=UTC)


def sell(world: World, amount: str, currency: str, name: str = "order-1", expires_in: int | None = None) -> Invoice:
    order = Order(parse_fiat(amount, currency), currency, None, "alice@example.com", expires_in=expires_in)
    return create_invoice(world.backend.issuer, name, order)


class TestBitcoinUnits:
    @pytest.mark.parametrize(
        ("amount", "currency", "sats"),
        [
            ("0.00000001", "btc", 1), ("0.00012345", "btc", 12_345), ("1.00000001", "btc", 100_000_001),
            ("1", "sats", 1), ("15253", "sats", 15_253),
        ],
    )  # fmt: skip
    def test_an_amount_of_bitcoin_is_asked_for_to_the_sat(
        self, world: World, amount: str, currency: str, sats: int
    ) -> None:
        invoice = sell(world, amount, currency)

        assert invoice.amount_sats == sats
        assert format(invoice.order.amount_fiat, "f") == amount
        assert sats_to_fiat(sats, invoice.rate.price, currency) == Decimal(amount)

    def test_no_price_source_is_asked_for_it(self, world: World) -> None:
        world.simulator.rates.factors = dict.fromkeys(world.simulator.rates.factors, Decimal(0))

        assert sell(world, "500", "sats").rate.source == "fixed"

    @pytest.mark.parametrize(
        ("amount", "currency", "why"),
        [("0.000000001", "btc", "at most 8 decimals"), ("1.5", "sats", "no decimals"), ("0", "sats", "more than zero")],
    )
    def test_a_part_of_a_sat_is_refused(self, amount: str, currency: str, why: str) -> None:
        with pytest.raises(InvalidRequest, match=why):
            parse_fiat(amount, currency)

    def test_more_than_all_bitcoin_is_refused(self, world: World) -> None:
        with pytest.raises(InvalidRequest, match=r"at most 21,000,000\.00000000"):
            sell(world, "21000000.00000001", "btc")

    @pytest.mark.parametrize("text", ["EUR", " btc ", "SATS"])
    def test_a_code_is_read_in_any_case(self, text: str) -> None:
        assert read_currency(text) == text.strip().lower()

    @pytest.mark.parametrize("text", ["", "xxx", "sat", "usdt", "eur\0"])
    def test_other_codes_are_refused(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="supported currency"):
            read_currency(text)


class TestOtherCurrencies:
    def test_an_invoice_is_priced_in_its_own_currency(self, world: World) -> None:
        dollars, yen = sell(world, "10.00", "usd"), sell(world, "1500", "jpy", "order-2")

        assert (dollars.rate.currency, yen.rate.currency) == ("usd", "jpy")
        exact = Decimal(1500) * 100_000_000 / yen.rate.price
        assert yen.amount_sats == exact.to_integral_value(ROUND_CEILING)
        assert dollars.rate.price != yen.rate.price

    def test_it_settles_with_the_sats_of_its_currency(self, world: World) -> None:
        invoice = sell(world, "10.00", "eur")
        world.pay(invoice)

        assert reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id) is Outcome.SETTLED
        with world.backend.repository.reading() as tx:
            known = tx.invoices.find(invoice.id)
        assert known is not None
        assert (known.received_sats, known.order.currency) == (invoice.amount_sats, "eur")

    def test_the_same_order_in_another_currency_is_another_request(self, world: World) -> None:
        sell(world, "10.00", "eur")

        with pytest.raises(OrderConflict) as refused:
            sell(world, "10.00", "usd")

        assert refused.value.code == "amount_differs"

    def test_a_lone_price_is_compared_with_the_last_sale_in_the_same_currency(self, world: World) -> None:
        sell(world, "10.00", "eur")
        sell(world, "10.00", "usd", "order-2")
        with world.backend.repository.reading() as tx:
            euros, pounds = tx.invoices.newest_rate("eur"), tx.invoices.newest_rate("gbp")

        assert euros is not None
        assert euros.currency == "eur"
        assert pounds is None

    def test_every_currency_together_needs_as_few_calls_as_one(self, world: World) -> None:
        for currency in CURRENCIES:
            # A source may know no price in it.
            with suppress(RateUnavailable):
                world.backend.issuer.rates.current(currency)

        asked = [one for one in world.calls() if "/v1/invoices" not in one]
        assert len(asked) == len(set(asked)) <= 3

    def test_a_price_in_one_currency_that_is_not_believed_stops_no_other(self, world: World) -> None:
        assert world.backend.issuer.rates.current("eur").price > 0
        with pytest.raises(ValueError, match="not a currency"):
            world.backend.issuer.rates.current("xxx")


class CountingSource:
    """A source that counts its calls; it can fail."""

    name = "counting"

    def __init__(self) -> None:
        self.calls = 0
        self.is_down = False

    def fetch(self, currency: str) -> Rate | None:
        return self.ask([currency])(currency)

    def ask(self, currencies: Collection[str]) -> Prices:
        self.calls += 1
        if self.is_down:
            raise RateSourceError("was not reached")
        price = Decimal(self.calls)
        return lambda currency: Rate(price, currency, self.name, START) if currency in currencies else None


class TestASharedSource:
    def make(self) -> tuple[CountingSource, SharedSource, Callable[[float], None]]:
        source, now = CountingSource(), [START]

        def pass_time(seconds: float) -> None:
            now[0] += timedelta(seconds=seconds)

        return source, SharedSource(source, lambda: now[0]), pass_time

    def test_one_answer_serves_every_currency(self) -> None:
        source, shared, _ = self.make()

        assert {shared.fetch(one).price for one in ("usd", "eur", "jpy")} == {1}  # type: ignore[union-attr]
        assert source.calls == 1

    def test_the_same_currency_asks_again(self) -> None:
        source, shared, _ = self.make()
        shared.fetch("usd")
        shared.fetch("eur")

        shared.fetch("usd")
        shared.fetch("eur")

        assert source.calls == 2

    @pytest.mark.parametrize("seconds", [20, 1000, -1])
    def test_an_old_answer_and_one_of_a_clock_that_was_set_back_are_not_used(self, seconds: float) -> None:
        source, shared, pass_time = self.make()
        shared.fetch("usd")

        pass_time(seconds)
        shared.fetch("eur")

        assert source.calls == 2

    def test_a_failure_is_shared_as_an_answer_is(self) -> None:
        source, shared, pass_time = self.make()
        source.is_down = True
        for currency in ("usd", "eur"):
            with pytest.raises(RateSourceError, match="was not reached"):
                shared.fetch(currency)
        assert source.calls == 1

        source.is_down = False
        pass_time(5)
        assert shared.fetch("usd") is not None


class TestItsOwnTimeToPay:
    @pytest.mark.parametrize(("wanted", "seconds"), [(None, 120), (30, 30), (900, 900), (3_600, 3_600)])
    def test_an_invoice_ends_when_it_was_asked_to(self, world: World, wanted: int | None, seconds: int) -> None:
        invoice = sell(world, "10.00", "usd", expires_in=wanted)

        assert invoice.expires_at - invoice.issue.opened_at == timedelta(seconds=seconds)
        with world.backend.repository.reading() as tx:
            assert tx.invoices.find(invoice.id) == invoice

    @pytest.mark.parametrize("seconds", [-1, 0, 29, 3_601])
    def test_other_times_are_refused(self, seconds: int) -> None:
        with pytest.raises(InvalidRequest, match="30 to 3,600 seconds"):
            check_expires_in(seconds)

    def test_a_repeat_with_another_time_is_another_request(self, world: World) -> None:
        sell(world, "10.00", "usd", expires_in=600)

        assert sell(world, "10.00", "usd", expires_in=600).order.expires_in == 600
        with pytest.raises(OrderConflict, match="expires_in"):
            sell(world, "10.00", "usd")

    @pytest.mark.parametrize(
        ("expires_in", "paid_after", "outcome"),
        [(600, 599, Outcome.SETTLED), (600, 601, Outcome.PAID_LATE), (60, 90, Outcome.PAID_LATE)],
    )
    def test_it_decides_whether_a_payment_is_late(
        self, world: World, expires_in: int, paid_after: int, outcome: Outcome
    ) -> None:
        invoice = sell(world, "10.00", "usd", expires_in=expires_in)
        world.wait(paid_after)
        world.pay(invoice)

        assert reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id) is outcome
        with world.backend.repository.reading() as tx:
            known, refund = tx.invoices.find(invoice.id), tx.refunds.find_by_invoice(invoice.id)
        assert known is not None
        assert (known.state is InvoiceState.PAID_LATE) == (refund is not None)
