"""What payments make of an invoice, and what of them is owed back: the rules alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from lnpay.domain.money import CurrencyAmount, conversion_rate
from lnpay.domain.receives import Judgement, Receive, beyond_price, judge, total_of
from lnpay.domain.states import InvoiceState

PRICE = 1_000
END = datetime(2026, 3, 1, 12, tzinfo=UTC)


def paid(
    sats: int, minutes: int = -1, *, name: str = "", credited: CurrencyAmount | None = None, rate: str | None = None
) -> Receive:
    """A payment made so many minutes after the deadline."""
    at = END + timedelta(minutes=minutes)
    received = CurrencyAmount(Decimal(sats) / 100_000_000, "BTC")
    given = None if rate is None else Decimal(rate)
    return Receive(1, 1, name or f"{sats}", "LIGHTNING", sats, 0, received, credited, given, None, at, at)


class TestJudging:
    @pytest.mark.parametrize("sats", [(1_000,), (1_001,), (400, 600), (999, 1), (1_000, 1_000)])
    def test_the_whole_price_in_time_settles(self, sats: tuple[int, ...]) -> None:
        receives = [paid(one, index - 10, name=f"{index}") for index, one in enumerate(sats)]

        judgement = judge(PRICE, END, receives, is_over=True, may_more_come=False)

        assert judgement.state is InvoiceState.SETTLED

    def test_the_payment_that_completes_the_price_gives_its_time(self) -> None:
        receives = [paid(100, -1, name="last"), paid(500, -5), paid(500, -3, name="second")]

        judgement = judge(PRICE, END, receives, is_over=False, may_more_come=False)

        assert judgement == Judgement(InvoiceState.SETTLED, END - timedelta(minutes=3))

    @pytest.mark.parametrize("sats", [1, 999])
    def test_a_part_waits_for_the_rest_until_the_deadline(self, sats: int) -> None:
        state = judge(PRICE, END, [paid(sats)], is_over=False, may_more_come=False).state
        assert state is None
        state = judge(PRICE, END, [paid(sats)], is_over=True, may_more_come=False).state
        assert state is InvoiceState.PAID_LATE

    @pytest.mark.parametrize("minutes", [-1, 1])
    def test_a_payment_in_time_that_is_not_final_is_waited_for(self, minutes: int) -> None:
        assert judge(PRICE, END, [paid(999, minutes)], is_over=True, may_more_come=True).state is None

    def test_a_payment_at_the_deadline_is_in_time_and_a_later_one_late(self) -> None:
        assert judge(PRICE, END, [paid(1_000, 0)], is_over=True, may_more_come=False).state is InvoiceState.SETTLED
        late = judge(PRICE, END, [paid(1_000, 1)], is_over=False, may_more_come=False)
        assert late == Judgement(InvoiceState.PAID_LATE, END + timedelta(minutes=1))


class TestBeyondThePrice:
    @pytest.mark.parametrize(
        ("price", "deadline", "receives", "owed"),
        [
            (1_000, END, [paid(1_000)], {"1000": 0}),
            (1_000, END, [paid(1_500)], {"1500": 500}),
            (1_000, END, [paid(600, -5), paid(601, -4)], {"600": 0, "601": 201}),
            (1_000, END, [paid(601, -4), paid(600, -5)], {"600": 0, "601": 201}),
            (1_000, END, [paid(1_000), paid(700, 5)], {"1000": 0, "700": 700}),
            (1_000, END, [paid(400), paid(600, 5)], {"400": 0, "600": 600}),
            (1_000, None, [paid(400), paid(700, 5)], {"400": 0, "700": 100}),
            (0, END, [paid(400), paid(600, 5)], {"400": 400, "600": 600}),
        ],
    )
    def test_what_does_not_pay_for_the_order_is_owed_back(
        self, price: int, deadline: datetime | None, receives: list[Receive], owed: dict[str, int]
    ) -> None:
        assert beyond_price(price, deadline, receives) == owed


class TestTotals:
    def test_a_single_payment_keeps_strikes_rate(self) -> None:
        total = total_of([paid(1_000, credited=CurrencyAmount(Decimal("0.64"), "EUR"), rate="64001.5")])

        assert total.credited == CurrencyAmount(Decimal("0.64"), "EUR")
        assert (total.sats, total.conversion_rate) == (1_000, Decimal("64001.5"))

    def test_several_give_the_rate_of_their_sums(self) -> None:
        euros = [CurrencyAmount(Decimal(text), "EUR") for text in ("0.64", "0.32")]
        total = total_of([paid(1_000, credited=euros[0], rate="1"), paid(500, credited=euros[1], rate="2")])

        assert total.credited == CurrencyAmount(Decimal("0.96"), "EUR")
        assert (total.sats, total.conversion_rate) == (1_500, Decimal("64000.0000"))

    @pytest.mark.parametrize("second", [None, CurrencyAmount(Decimal("0.32"), "USD")])
    def test_without_one_credited_currency_of_all_there_is_no_sum(self, second: CurrencyAmount | None) -> None:
        total = total_of([paid(1_000, credited=CurrencyAmount(Decimal("0.64"), "EUR")), paid(500, credited=second)])

        assert (total.sats, total.credited, total.conversion_rate) == (1_500, None, None)


@pytest.mark.parametrize(
    ("credited", "sats", "rate"),
    [("10.99", 51_636, "21283.6006"), ("0.00001000", 1_000, "1.0000"), ("0.01", 30_000_000, "0.0333")],
)
def test_the_rate_is_what_one_bitcoin_became(credited: str, sats: int, rate: str) -> None:
    assert conversion_rate(Decimal(credited), sats) == Decimal(rate)


@pytest.mark.parametrize(
    ("amount", "currency", "sats"),
    [("0.00001", "BTC", 1_000), ("1E-5", "BTC", 1_000), ("0.000010001", "BTC", 1_001), ("5", "EUR", None)],
)
def test_an_amount_of_bitcoin_is_whole_sats_rounded_up(amount: str, currency: str, sats: int | None) -> None:
    assert CurrencyAmount(Decimal(amount), currency).sats == sats
