"""Issuing an invoice: once per order, no matter which answers are lost and who else asks at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import pytest

from lnpay.domain.errors import (
    Conflict,
    InvalidRequest,
    RateUnavailable,
    StrikeAmbiguous,
    StrikeRejected,
    StrikeUnavailable,
)
from lnpay.domain.model import Invoice, Order
from lnpay.domain.money import fiat_to_sats
from lnpay.domain.states import InvoiceState
from lnpay.domain.strike_names import read_strike_name
from lnpay.invoices.create import ROUNDS, create_invoice
from lnpay.invoices.sweep import sweep
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.rates.prices import BITCOIN_USD
from lnpay.sandbox.strike.bolt11_writer import PaymentTerms, write_payment_request
from tests.world import World, empty_database

CREATE = "/v1/invoices"
QUOTE = "/v1/invoices/*/quote"
ORDER = Order(Decimal("12.34"), "usd", "Two coffees", "alice@example.com")
OTHER = Order(Decimal("20.00"), "usd", "Two coffees", "alice@example.com")

LOSSES = ["lost_answer", "timeout_after", "error_after", "garbage", "truncated"]
"""Each happens after the provider has done what it was asked for."""


def create(world: World, order: Order = ORDER, correlation_id: str = "order-1") -> Invoice:
    return create_invoice(world.backend.issuer, correlation_id, order)


def made_at_strike(world: World) -> list[str]:
    """Strike ids of every invoice at the provider, the oldest first."""
    return list(world.simulator.invoices.by_id)


def payment_request(sats: int | None) -> str:
    """A correctly signed payment request for an amount that we did not ask for."""
    terms = PaymentTerms(sats or 0, 1_767_225_600, 3600, b"\x01" * 32, b"\x02" * 32, "")
    return write_payment_request(terms)


class TestIssuing:
    def test_an_invoice_asks_exactly_the_sats_that_were_computed(self, world: World) -> None:
        invoice = create(world)

        at_strike = world.simulator.invoices.by_id[invoice.strike_invoice_id]
        assert invoice.amount_sats == fiat_to_sats(ORDER.amount_fiat, BITCOIN_USD)
        assert at_strike.amount.units == at_strike.quotes[0].sats == invoice.amount_sats
        assert at_strike.quotes[0].payment_request == invoice.issue.bolt11

    def test_the_order_and_its_price_are_remembered(self, world: World) -> None:
        invoice = create(world)

        assert invoice.order == ORDER
        assert (invoice.state, invoice.correlation_id) == (InvoiceState.UNPAID, "order-1")
        assert (invoice.rate.price, invoice.rate.source) == (BITCOIN_USD, "coingecko")

    def test_the_provider_gets_the_shops_order_id_in_a_name_of_ours_and_the_description(self, world: World) -> None:
        create(world)

        (at_strike,) = world.simulator.invoices.by_id.values()
        name = read_strike_name(at_strike.correlation_id or "")
        assert name is not None
        assert (name.order, at_strike.description) == ("order-1", "Two coffees")

    def test_an_order_without_a_description_has_none_at_the_provider(self, world: World) -> None:
        create(world, Order(Decimal("1.00"), "usd", None, None))

        (at_strike,) = world.simulator.invoices.by_id.values()
        assert at_strike.description is None

    def test_the_time_to_pay_runs_from_the_providers_created(self, make_world: Callable[..., World]) -> None:
        world = make_world(time_offset_seconds=90)
        world.fault("POST", CREATE, "delay_after", seconds=3)

        invoice = create(world)

        created_at = world.simulator.invoices.by_id[invoice.strike_invoice_id].created_at
        assert invoice.issue.opened_at == created_at
        assert invoice.expires_at == created_at + timedelta(seconds=90)

    def test_the_time_to_pay_ends_with_the_quote_at_the_latest(self, make_world: Callable[..., World]) -> None:
        world = make_world(time_offset_seconds=600, config=SimulatorConfig(quote_seconds=45))

        invoice = create(world)

        assert invoice.expires_at == world.backend.clock() + timedelta(seconds=45)

    def test_an_invoice_is_watched_until_its_payment_request_dies(self, world: World) -> None:
        invoice = create(world)

        assert invoice.issue.payable_until == world.backend.clock() + timedelta(seconds=3600)

    def test_each_checkout_link_is_another_and_long(self, world: World) -> None:
        tokens = {create(world, correlation_id=f"order-{number}").token for number in range(3)}

        assert len(tokens) == 3
        assert all(len(token) >= 32 for token in tokens)


class TestRepeating:
    def test_the_same_request_gives_the_same_open_invoice(self, world: World) -> None:
        first = create(world)
        world.wait(119)

        again = create(world)

        assert again == first
        assert len(made_at_strike(world)) == 1
        assert len(world.calls("POST /v1/invoices")) == 2

    def test_the_same_request_needs_no_provider_while_the_invoice_is_open(self, world: World) -> None:
        first = create(world)
        world.fault("*", "/*", "unreachable", times=None)

        assert create(world) == first

    @pytest.mark.parametrize(
        "other",
        [
            OTHER,
            Order(ORDER.amount_fiat, "usd", "Three coffees", ORDER.ln_address),
            Order(ORDER.amount_fiat, "usd", ORDER.description, "bob@example.com"),
            Order(ORDER.amount_fiat, "usd", ORDER.description, None),
        ],
    )
    def test_a_different_request_is_refused(self, world: World, other: Order) -> None:
        first = create(world)

        with pytest.raises(Conflict) as refusal:
            create(world, other)

        assert refusal.value.code == ("amount_differs" if other is OTHER else "correlation_id_taken")
        assert world.invoice(first.strike_invoice_id) == first

    def test_after_the_time_to_pay_the_order_id_is_used_up(self, world: World) -> None:
        create(world)
        world.wait(120)

        with pytest.raises(Conflict) as refusal:
            create(world)

        assert refusal.value.code == "expired"
        assert "expired" in refusal.value.message

    def test_after_the_payment_the_order_id_is_used_up(self, world: World) -> None:
        world.subscribe()
        world.pay(create(world))
        world.pump()

        with pytest.raises(Conflict) as refusal:
            create(world)

        assert refusal.value.code == "already_paid"
        assert "do not sell it again" in refusal.value.message

    def test_a_different_request_for_a_closed_invoice_learns_that_it_is_closed(self, world: World) -> None:
        create(world)
        world.wait(500)

        with pytest.raises(Conflict) as refusal:
            create(world, OTHER)

        assert refusal.value.code == "expired"

    def test_a_new_process_gives_the_same_invoice(self, world: World) -> None:
        first = create(world)

        world.restart()

        assert create(world) == first


class TestLostAnswers:
    @pytest.mark.parametrize("kind", LOSSES)
    def test_a_lost_answer_to_the_creation_leads_to_one_invoice(self, world: World, kind: str) -> None:
        world.fault("POST", CREATE, kind)

        invoice = create(world)

        assert made_at_strike(world) == [invoice.strike_invoice_id]

    @pytest.mark.parametrize("kind", ["lost_answer", "timeout_after", "error_after", "garbage"])
    def test_answers_lost_twice_are_found_by_the_shops_next_try(self, world: World, kind: str) -> None:
        world.fault("POST", CREATE, kind, times=2)
        with pytest.raises(StrikeAmbiguous):
            create(world)

        invoice = create(world)

        assert made_at_strike(world) == [invoice.strike_invoice_id]

    @pytest.mark.parametrize("kind", LOSSES)
    def test_a_lost_quote_is_replaced_by_another(self, world: World, kind: str) -> None:
        world.fault("POST", QUOTE, kind)

        invoice = create(world)

        quotes = world.simulator.invoices.by_id[invoice.strike_invoice_id].quotes
        assert [quote.payment_request == invoice.issue.bolt11 for quote in quotes] == [False, True]

    def test_quotes_lost_twice_are_asked_again_by_the_shops_next_try(self, world: World) -> None:
        world.fault("POST", QUOTE, "lost_answer", times=2)
        with pytest.raises(StrikeAmbiguous):
            create(world)

        invoice = create(world)

        assert made_at_strike(world) == [invoice.strike_invoice_id]

    @pytest.mark.parametrize("kind", ["unreachable", "rate_limited"])
    @pytest.mark.parametrize("path", [CREATE, QUOTE])
    def test_where_nothing_was_done_the_shop_may_repeat(self, world: World, kind: str, path: str) -> None:
        world.fault("POST", path, kind)
        with pytest.raises(StrikeUnavailable):
            create(world)
        world.wait(61)

        create(world)

        assert world.count_rows() == 1

    def test_a_creation_that_takes_effect_after_we_gave_up_is_found(self, world: World) -> None:
        world.fault("POST", CREATE, "delay", seconds=12)

        invoice = create(world)

        assert made_at_strike(world) == [invoice.strike_invoice_id]

    def test_a_lost_request_is_simply_made_again(self, world: World) -> None:
        world.fault("POST", CREATE, "lost_request")

        invoice = create(world)

        assert made_at_strike(world) == [invoice.strike_invoice_id]

    @pytest.mark.parametrize("field", ["invoiceId", "state", "created"])
    def test_a_created_invoice_without_what_we_need_is_read_from_the_list(self, world: World, field: str) -> None:
        world.fault("POST", CREATE, "field_missing", field=field)

        invoice = create(world)

        assert made_at_strike(world) == [invoice.strike_invoice_id]

    @pytest.mark.parametrize("field", ["lnInvoice", "expiration"])
    def test_a_quote_without_what_we_need_is_made_again(self, world: World, field: str) -> None:
        world.fault("POST", QUOTE, "field_missing", field=field)

        create(world)

        assert len(world.calls("POST /v1/invoices/")) == 2


class TestDuplicates:
    @pytest.mark.parametrize("policy", ["allow", "block_compound", "block_all"])
    def test_the_first_invoice_is_found_also_where_filters_are_refused(
        self, make_world: Callable[..., World], policy: str
    ) -> None:
        world = make_world(config=SimulatorConfig(filter_policy=policy))
        world.fault("POST", CREATE, "lost_answer")

        invoice = create(world)

        assert made_at_strike(world) == [invoice.strike_invoice_id]

    def test_a_refusal_that_is_cut_off_is_still_read_as_a_duplicate(self, world: World) -> None:
        world.fault("POST", CREATE, "truncated", times=2)

        invoice = create(world)

        assert made_at_strike(world) == [invoice.strike_invoice_id]

    def test_an_order_id_with_a_quote_mark_is_found(self, world: World) -> None:
        world.fault("POST", CREATE, "lost_answer")

        invoice = create(world, correlation_id="O'Neill's & co")

        assert made_at_strike(world) == [invoice.strike_invoice_id]

    @pytest.mark.parametrize("sats", [77, fiat_to_sats(ORDER.amount_fiat, BITCOIN_USD)])
    def test_an_invoice_that_another_program_named_like_the_order_is_never_adopted(
        self, world: World, sats: int
    ) -> None:
        foreign = world.backend.strike.create_invoice(sats, "order-1", None)

        invoice = create(world)

        assert made_at_strike(world) == [foreign.invoice_id, invoice.strike_invoice_id]

    def test_a_draft_of_an_older_version_does_not_adopt_what_has_the_orders_name(self, world: World) -> None:
        sats = fiat_to_sats(ORDER.amount_fiat, BITCOIN_USD)
        foreign = world.backend.strike.create_invoice(sats, "order-1", None)
        rate = world.backend.issuer.rates.current("usd")
        with world.backend.repository.transaction() as tx:
            tx.invoices.add_draft("order-1", "order-1", "a-token", ORDER, sats, rate, world.backend.clock())

        invoice = create(world)

        assert invoice.strike_invoice_id != foreign.invoice_id
        assert invoice.token == "a-token"

    def test_an_invoice_that_was_cancelled_before_it_was_shown_is_replaced(self, world: World) -> None:
        leave_draft(world)
        (cancelled,) = world.simulator.invoices.by_id.values()
        world.simulator.invoices.cancel(cancelled)

        invoice = create(world)

        assert made_at_strike(world) == [cancelled.invoice_id, invoice.strike_invoice_id]

    @pytest.mark.parametrize("state", ["PAID", "PENDING"])
    def test_an_order_that_is_paid_at_the_provider_and_unknown_here_is_not_sold_again(
        self, world: World, state: str
    ) -> None:
        leave_draft(world)
        (at_strike,) = world.simulator.invoices.by_id.values()
        at_strike.state = state

        with pytest.raises(Conflict) as refusal:
            create(world)

        assert refusal.value.code == "already_paid"

    def test_an_invoice_that_another_request_issued_and_the_customer_paid_is_recognized(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        strike = world.backend.issuer.strike
        real = strike.create_invoice

        def slow(*arguments: Any) -> Any:
            monkeypatch.undo()
            world.pay(create(world))
            return real(*arguments)

        monkeypatch.setattr(strike, "create_invoice", slow)

        assert create(world).correlation_id == "order-1"

    def test_a_duplicate_that_the_provider_does_not_show_is_asked_for_later(self, world: World) -> None:
        world.fault("POST", CREATE, "error", status=409, code="DUPLICATE_INVOICE")

        with pytest.raises(StrikeAmbiguous):
            create(world)

        assert create(world).state is InvoiceState.UNPAID


class TestTwoInstallations:
    """Two shops, or staging beside live, on one account at the provider."""

    @pytest.fixture
    def other(self, world: World, tmp_path: Path) -> Iterator[World]:
        Path(tmp_path, "other.sqlite").write_bytes(empty_database())
        other = World(f"sqlite:///{tmp_path}/other.sqlite", world.simulator)
        yield other
        other.close()

    def test_one_payment_settles_one_order(self, world: World, other: World) -> None:
        ours, theirs = create(world), create(other)
        world.pay(ours)

        for one in (world, other):
            sweep(one.backend.sweep_settlement, lambda: 100, is_deep=True)

        assert world.invoice(ours.strike_invoice_id).state is InvoiceState.SETTLED
        assert other.invoice(theirs.strike_invoice_id).state is InvoiceState.UNPAID

    @pytest.mark.parametrize("kind", LOSSES)
    def test_a_lost_answer_never_leads_to_the_neighbours_invoice(self, world: World, other: World, kind: str) -> None:
        ours = create(world)
        other.fault("POST", CREATE, kind)

        theirs = create(other)

        assert made_at_strike(world) == [ours.strike_invoice_id, theirs.strike_invoice_id]

    def test_another_amount_is_sold_too(self, world: World, other: World) -> None:
        create(world)

        assert create(other, OTHER).order == OTHER


def leave_draft(world: World, order: Order = ORDER) -> None:
    """Leave a draft behind whose invoice exists at the provider."""
    world.fault("POST", QUOTE, "error", status=503, times=2)
    with pytest.raises(StrikeAmbiguous):
        create(world, order)


class TestDrafts:
    def fail_once(self, world: World, order: Order = ORDER) -> None:
        leave_draft(world, order)

    def test_a_fresh_draft_keeps_its_price(self, world: World) -> None:
        self.fail_once(world)
        world.simulator.rates.bitcoin_usd = Decimal(66_000)
        world.wait(29)

        invoice = create(world)

        assert invoice.rate.price == BITCOIN_USD
        assert made_at_strike(world) == [invoice.strike_invoice_id]

    def test_a_draft_of_a_clock_that_was_ahead_gets_todays_price(self, world: World) -> None:
        """It was made before Strike's time was known, and its price would stay for four minutes."""
        world.skew_seconds = 240
        world.restart()
        self.fail_once(world)
        world.skew_seconds = 0
        world.restart()
        world.simulator.rates.bitcoin_usd = Decimal(66_000)
        world.wait(200)

        assert create(world).rate.price == Decimal(66_000)

    def test_an_older_draft_gets_todays_price_and_a_new_name_at_the_provider(self, world: World) -> None:
        self.fail_once(world)
        world.restart()
        world.simulator.rates.bitcoin_usd = Decimal(66_000)
        world.wait(61)  # the price that servers share is used for a minute

        invoice = create(world)

        at_strike = list(world.simulator.invoices.by_id.values())
        assert invoice.rate.price == Decimal(66_000)
        names = [one.correlation_id or "" for one in at_strike]
        assert len(set(names)) == 2
        assert all(name.startswith("order-1.") for name in names)
        assert at_strike[1].invoice_id == invoice.strike_invoice_id

    def test_a_renewed_draft_leaves_the_whole_time_to_pay(self, world: World) -> None:
        self.fail_once(world)
        world.wait(100)

        invoice = create(world)

        assert invoice.expires_at == world.backend.clock() + timedelta(seconds=120)

    def test_a_draft_follows_a_changed_request(self, world: World) -> None:
        self.fail_once(world)

        invoice = create(world, OTHER)

        assert invoice.order == OTHER
        assert made_at_strike(world)[1:] == [invoice.strike_invoice_id]

    def test_a_short_time_to_pay_shortens_the_life_of_a_draft(self, make_world: Callable[..., World]) -> None:
        world = make_world(time_offset_seconds=20)
        self.fail_once(world)
        world.wait(15)

        invoice = create(world)

        assert invoice.expires_at == world.backend.clock() + timedelta(seconds=20)

    def test_a_draft_is_never_shown_as_an_invoice(self, world: World) -> None:
        self.fail_once(world)

        (strike_invoice_id,) = made_at_strike(world)
        assert world.client.get(f"/invoices/{strike_invoice_id}").status_code == 404

    def test_an_invoice_whose_time_is_over_before_it_can_be_shown_is_not_shown(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world(time_offset_seconds=10)
        world.fault("POST", QUOTE, "timeout_after")

        with pytest.raises(StrikeUnavailable):
            create(world)

        invoice = create(world)
        assert invoice.expires_at == world.backend.clock() + timedelta(seconds=10)


class TestNonsense:
    @pytest.mark.parametrize(
        "bolt11",
        [payment_request(19_999), payment_request(1), "lnbc1nonsense", "not a payment request", "lnbc" + "1" * 9000],
    )
    def test_a_payment_request_over_anything_else_is_never_shown(self, world: World, bolt11: str) -> None:
        world.fault("POST", QUOTE, "field_changed", field="lnInvoice", value=bolt11)

        with pytest.raises(StrikeRejected):
            create(world)

        assert world.client.get(f"/invoices/{made_at_strike(world)[0]}").status_code == 404

    def test_a_good_payment_request_of_another_invoice_of_the_same_amount_is_as_good(self, world: World) -> None:
        """Nothing in it says whose it is; what counts is that it asks for the right amount."""
        sats = fiat_to_sats(ORDER.amount_fiat, BITCOIN_USD)
        world.fault("POST", QUOTE, "field_changed", field="lnInvoice", value=payment_request(sats))

        assert create(world).amount_sats == sats

    @pytest.mark.parametrize("value", [None, 7, "", {"a": 1}])
    def test_a_quote_of_another_shape_is_no_quote(self, world: World, value: Any) -> None:
        world.fault("POST", QUOTE, "field_changed", field="lnInvoice", value=value, times=2)

        with pytest.raises(StrikeAmbiguous):
            create(world)

    def test_an_account_that_cannot_invoice_bitcoin_is_a_refusal(self, make_world: Callable[..., World]) -> None:
        world = make_world(config=SimulatorConfig(invoiceable_currencies=["USD"]))

        with pytest.raises(StrikeRejected) as refusal:
            create(world)

        assert refusal.value.strike_code == "USER_CURRENCY_UNAVAILABLE"

    def test_a_wrong_key_is_a_refusal(self, make_world: Callable[..., World]) -> None:
        world = make_world(config=SimulatorConfig(api_keys={"another-key": ["*"]}))

        with pytest.raises(StrikeRejected):
            create(world)


class TestPrices:
    def rates_down(self, world: World) -> None:
        for path in ("/coingecko/*", "/coinbase/*", "/v1/rates/*"):
            world.fault("GET", path, "error", status=503, times=None)

    def test_without_a_price_nothing_is_written(self, world: World) -> None:
        self.rates_down(world)

        with pytest.raises(RateUnavailable) as refusal:
            create(world)

        assert refusal.value.retry_after_seconds >= 1
        assert world.count_rows() == 0

    def test_without_a_price_a_fresh_draft_is_still_issued(self, world: World) -> None:
        world.fault("POST", CREATE, "unreachable")
        with pytest.raises(StrikeUnavailable):
            create(world)
        self.rates_down(world)
        world.restart()

        assert create(world).rate.price == BITCOIN_USD

    def test_less_than_a_sat_is_refused_and_nothing_written(self, make_world: Callable[..., World]) -> None:
        world = make_world(currency="vnd")
        world.simulator.rates.set_price("vnd", "250000000")

        with pytest.raises(InvalidRequest):
            create(world, Order(Decimal(1), "vnd", None, None))

        assert world.count_rows() == 0

    def test_more_than_all_bitcoin_is_refused_and_nothing_written(self, world: World) -> None:
        with pytest.raises(InvalidRequest):
            create(world, Order(Decimal("9e15"), "usd", None, None))

        assert world.count_rows() == 0

    @pytest.mark.parametrize("path", [CREATE, QUOTE])
    @pytest.mark.parametrize("code", ["AMOUNT_TOO_HIGH", "AMOUNT_TOO_LOW", "INVALID_AMOUNT"])
    def test_an_amount_that_strike_refuses_is_the_callers_to_fix(self, world: World, code: str, path: str) -> None:
        world.fault("POST", path, "error", status=422, code=code)

        with pytest.raises(InvalidRequest) as refusal:
            create(world)

        sats = fiat_to_sats(ORDER.amount_fiat, BITCOIN_USD)
        assert "payment provider accepts" in refusal.value.message
        assert f"({sats:,} sats)" in refusal.value.message

    @pytest.mark.parametrize(
        ("fields", "is_amount"),
        [({"amount"}, True), ({"Amount.amount"}, True), ({"description"}, False), ({"amountless"}, False), ([], False)],
    )
    def test_an_amount_that_strike_calls_invalid_is_too(
        self, world: World, monkeypatch: pytest.MonkeyPatch, fields: set[str], is_amount: bool
    ) -> None:
        def refuse(*_: object) -> NoReturn:
            raise StrikeRejected("no", status=400, strike_code="INVALID_DATA", invalid_fields=frozenset(fields))

        monkeypatch.setattr(world.backend.strike, "create_invoice", refuse)

        with pytest.raises(InvalidRequest if is_amount else StrikeRejected):
            create(world)

    @pytest.mark.parametrize("source", ["coingecko", "coinbase", "strike"])
    @pytest.mark.parametrize("price", ["642505.00", "6425.05"])
    def test_a_lone_source_that_jumps_within_a_minute_is_not_sold_at(
        self, world: World, source: str, price: str
    ) -> None:
        create(world)
        self.alone(world, source, price)
        world.simulator.clock.advance(60)
        world.restart()

        with pytest.raises(RateUnavailable):
            create(world, correlation_id="order-2")
        assert world.count_rows() == 1

    def test_a_lone_source_that_stays_is_sold_at_after_a_restart(self, world: World) -> None:
        create(world)
        self.alone(world, "coinbase", "65000")
        world.simulator.clock.advance(60)
        world.restart()

        assert create(world, correlation_id="order-2").rate.price == 65_000

    def test_the_last_price_in_another_currency_says_nothing(self, make_world: Callable[..., World]) -> None:
        world = make_world(currency="usd")
        create(world)
        self.alone(world, "coinbase", "10000000")
        world.simulator.rates.set_price("jpy", "10000000", "coinbase")
        world.restart(currency="jpy")

        assert create(world, Order(Decimal(100), "jpy", None, None), correlation_id="order-2").rate.price == 10_000_000

    def alone(self, world: World, source: str, price: str) -> None:
        """Let one source alone answer, with this price of a bitcoin in USD."""
        for name, path in (("coingecko", "/coingecko/*"), ("coinbase", "/coinbase/*"), ("strike", "/v1/rates/*")):
            if name != source:
                world.fault("GET", path, "error", status=503, times=None)
        world.simulator.rates.set_price("usd", price, source)

    def test_one_sat_can_be_sold(self, make_world: Callable[..., World]) -> None:
        world = make_world(currency="jpy")
        world.simulator.rates.set_price("jpy", "100000000")

        assert create(world, Order(Decimal(1), "jpy", None, None)).amount_sats == 1


class TestAtTheSameTime:
    def together(self, world: World, orders: list[Order]) -> list[Invoice | Exception]:
        """Ask for all of them under one order id at once."""
        barrier = threading.Barrier(len(orders))

        def ask(order: Order) -> Invoice | Exception:
            barrier.wait()
            try:
                return create(world, order)
            except Conflict as error:
                return error

        with ThreadPoolExecutor(len(orders)) as pool:
            return list(pool.map(ask, orders))

    @pytest.mark.parametrize("attempt", range(5))
    def test_the_same_request_gives_everybody_the_same_invoice(self, world: World, attempt: int) -> None:
        answers = self.together(world, [ORDER] * 4)

        assert all(isinstance(answer, Invoice) and answer == answers[0] for answer in answers)
        assert len(made_at_strike(world)) == 1

    @pytest.mark.parametrize("attempt", range(5))
    def test_of_two_different_requests_one_gets_an_invoice(self, world: World, attempt: int) -> None:
        answers = self.together(world, [ORDER, OTHER])

        (invoice,) = [answer for answer in answers if isinstance(answer, Invoice)]
        (refusal,) = [answer for answer in answers if isinstance(answer, Conflict)]
        assert refusal.code in ("amount_differs", "order_busy")
        assert world.invoice(invoice.strike_invoice_id).order == invoice.order

    def test_different_orders_do_not_wait_for_each_other(self, world: World) -> None:
        with ThreadPoolExecutor(8) as pool:
            invoices = list(pool.map(lambda number: create(world, correlation_id=f"order-{number}"), range(16)))

        assert len({invoice.strike_invoice_id for invoice in invoices}) == 16

    def test_an_order_that_other_requests_keep_changing_is_answered_with_a_conflict(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every time the provider answers, another request has changed the order."""
        issuer = world.backend.issuer
        real = issuer.strike.create_invoice
        meddling = iter(range(100))

        def meddle(*arguments: Any) -> Any:
            with issuer.repository.transaction() as tx:
                known = tx.invoices.find_by_correlation_id("order-1")
                assert known is not None
                order = Order(Decimal(next(meddling) + 1), "usd", None, None)
                tx.invoices.renew_draft(known, f"other-{order.amount_fiat}", order, 5, known.rate, known.created_at)
            return real(*arguments)

        monkeypatch.setattr(issuer.strike, "create_invoice", meddle)

        with pytest.raises(Conflict) as refusal:
            create(world)
        assert refusal.value.code == "order_busy"
        assert next(meddling) == ROUNDS
