"""Amounts as shops write them, and the one rounding."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_UP, Context, Decimal, Inexact, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnpay.domain.errors import InvalidRequest
from lnpay.domain.money import (
    CURRENCIES,
    MAX_SATS,
    SATS_PER_BTC,
    btc_to_msats,
    btc_to_sats,
    decimals_of,
    fiat_to_sats,
    msats_to_sats,
    parse_decimal,
    parse_fiat,
    round_fiat,
    sats_to_btc,
    sats_to_fiat,
    sats_to_msats,
)

SATS = st.integers(min_value=0, max_value=MAX_SATS)
FIAT = st.decimals(min_value="0.001", max_value="1000000000", places=3)
PRICES = st.decimals(min_value="0.01", max_value="10000000000", places=8)


SEPARATED = (
    "is ambiguous: it seems to have thousands separators; "
    'write it without them and with a decimal point, as in "1234.50"'
)

NO_BITCOIN = r"^(not an amount of bitcoin|more than all the bitcoin there is|finer than a millisat)$"


class TestCurrencies:
    def test_there_are_forty_five(self) -> None:
        assert len(CURRENCIES) == 45

    @pytest.mark.parametrize("currency", ["vef", "veb", "hrk", "dem", "frf", "itl", "eek", "lvl", "ltl", "zwl", "byr"])
    def test_a_currency_that_has_ended_is_none_of_them(self, currency: str) -> None:
        assert currency not in CURRENCIES

    def test_they_are_lower_case_codes_of_three_letters(self) -> None:
        assert all(len(code) == 3 and code.isalpha() and code.islower() for code in CURRENCIES)

    @pytest.mark.parametrize(("currency", "decimals"), [("usd", 2), ("eur", 2), ("jpy", 0), ("krw", 0), ("kwd", 3)])
    def test_each_is_written_with_its_own_number_of_decimals(self, currency: str, decimals: int) -> None:
        assert decimals_of(currency) == decimals


class TestParseFiat:
    @pytest.mark.parametrize(
        ("sent", "currency", "amount"),
        [
            ("12.34", "usd", "12.34"),
            ("0,01", "usd", "0.01"),
            ("0.01", "usd", "0.01"),
            ("12,5", "eur", "12.50"),
            ("1234,56", "eur", "1234.56"),
            (" 12.34\n", "usd", "12.34"),
            ("007", "usd", "7.00"),
            ("5.1000", "usd", "5.10"),
            ("12.34000000", "usd", "12.34"),
            ("15000.000000", "clp", "15000"),
            ("15.0000", "kwd", "15.000"),
            ("15.2340", "kwd", "15.234"),
            ("1500.000", "kwd", "1500.000"),
            ("1234,567", "kwd", "1234.567"),
            (Decimal("15.000"), "clp", "15"),
            (Decimal("1.234"), "kwd", "1.234"),
            ("0.500", "usd", "0.50"),
            ("0,500", "usd", "0.50"),
            ("1e2", "usd", "100.00"),
            ("1.5E+1", "usd", "15.00"),
            (12, "usd", "12.00"),
            (Decimal("12.3"), "usd", "12.30"),
            (Decimal("1E+2"), "usd", "100.00"),
            ("1500", "jpy", "1500"),
            ("1500.0", "jpy", "1500"),
            ("0,001", "kwd", "0.001"),
            ("0.001", "kwd", "0.001"),
            (10**30, "usd", f"{10**30}.00"),
            (2**63, "usd", f"{2**63}.00"),
            (10**39, "usd", f"{10**39}.00"),
            ("1".zfill(40), "usd", "1.00"),
        ],
    )
    def test_an_amount_gets_exactly_the_decimals_of_its_currency(
        self, sent: str | int | Decimal, currency: str, amount: str
    ) -> None:
        parsed = parse_fiat(sent, currency)

        assert format(parsed, "f") == amount

    @pytest.mark.parametrize(
        ("sent", "currency", "instead"),
        [
            ("15.000", "clp", '"15000" or "15"'),
            ("15,000", "clp", '"15000" or "15"'),
            ("15.000", "usd", '"15000" or "15.00"'),
            ("15.000", "kwd", '"15000" or "15.00"'),
            ("1.234", "kwd", '"1234" or "1.2340"'),
            ("1,234", "kwd", '"1234" or "1.2340"'),
            ("1.230", "bhd", '"1230" or "1.23"'),
            ("1.234", "usd", '"1234"'),
            ("5.100", "usd", '"5100" or "5.10"'),
            (" 999.999 ", "idr", '"999999"'),
            ("00,001", "kwd", '"1" or "00.0010"'),
        ],
    )
    def test_one_group_of_three_digits_is_refused_with_what_to_write_instead(
        self, sent: str, currency: str, instead: str
    ) -> None:
        sign = "comma" if "," in sent else "point"
        words = f"is ambiguous: the {sign} could separate thousands or decimals; write {instead}"

        assert refusal_of(sent, currency) == words

    @pytest.mark.parametrize("currency", sorted(CURRENCIES))
    def test_the_two_readings_are_refused_in_every_currency(self, currency: str) -> None:
        for sent in ("15.000", "1,234", "1.000,00", "1'000", "1.234.567"):
            assert refusal_of(sent, currency).startswith("is ambiguous: ")

    @given(st.integers(1, 999), st.integers(0, 999), st.sampled_from(".,"))
    def test_a_text_that_may_be_thousands_is_never_an_amount(self, whole: int, rest: int, sign: str) -> None:
        for currency in ("clp", "usd", "kwd"):
            refusal_of(f"{whole}{sign}{rest:03}", currency)

    @pytest.mark.parametrize(
        "sent",
        [
            "1,234.50", "1.234,50", "1,234,567", "1.234.567", "1.234.567,89", "1'000", "1’000.50", "1 000",
            "1\u202f000", "1\u00a0000,00", "1_000", "1,00,000", "1.00.000", "1,23,456.78", "1\u066c000",
            "1,2,3",
        ],
    )  # fmt: skip
    def test_thousands_separators_are_refused_as_ambiguous(self, sent: str) -> None:
        assert refusal_of(sent, "usd") == SEPARATED

    @pytest.mark.parametrize("sent", [",5", "5,", ",", "12,", "12,50 USD", "$1,234.50", "1,5e2", "a,b"])
    def test_a_comma_in_what_is_no_number_is_not_called_a_separator(self, sent: str) -> None:
        assert refusal_of(sent, "usd") == 'is not an amount: send a number such as "12.34"'

    @pytest.mark.parametrize(
        ("sent", "currency", "words"),
        [
            ("1.5", "jpy", "JPY has no decimals"),
            ("1,5", "jpy", "JPY has no decimals"),
            ("0.001", "usd", "USD has at most 2 decimals"),
            ("0,001", "usd", "USD has at most 2 decimals"),
            ("1e-8", "usd", "USD has at most 2 decimals"),
            (Decimal("1e-8"), "usd", "USD has at most 2 decimals"),
            ("1e-999", "usd", "USD has at most 2 decimals"),
            ("0.0001", "kwd", "KWD has at most 3 decimals"),
        ],
    )
    def test_an_amount_finer_than_its_currency_is_refused_not_rounded(
        self, sent: str | Decimal, currency: str, words: str
    ) -> None:
        assert refusal_of(sent, currency) == f"is too fine: {words}"

    @pytest.mark.parametrize(
        "sent", [0, "0", "0.00", "0,0", "0e5", -1, "-1", "−1", "-0", "-1,5", Decimal(-1), -(10**9)]
    )
    def test_nothing_and_less_than_nothing_are_refused(self, sent: str | int | Decimal) -> None:
        assert refusal_of(sent, "usd") == "must be more than zero"

    @pytest.mark.parametrize("sent", ["", " ", "\t\n"])
    def test_an_empty_amount_is_called_empty(self, sent: str) -> None:
        assert refusal_of(sent, "usd") == 'is empty: send an amount such as "12.34"'

    @pytest.mark.parametrize(
        "sent",
        [
            "NaN", "nan", "Infinity", "inf", "sNaN", "+5", "5.", ".5", "1.2.3", "$5", "5 usd", "1_00", "0x10", "1e",
            "1e9999", "e5",
            "１２", "٣", "1 00", "1\x000", "²", Decimal("NaN"), Decimal("Infinity"), Decimal("1E+5000"),
        ],
    )  # fmt: skip
    def test_what_is_no_number_in_plain_digits_is_refused(self, sent: str | Decimal) -> None:
        assert refusal_of(sent, "usd") == 'is not an amount: send a number such as "12.34"'

    @pytest.mark.parametrize(
        "sent", ["9" * 41, "0." + "0" * 38 + "1", 10**40, pytest.param(10**5000, id="5001 digits")]
    )
    def test_an_endless_amount_is_refused_before_it_is_read(self, sent: str | int) -> None:
        assert refusal_of(sent, "usd") == "is longer than 40 characters"

    @pytest.mark.parametrize("sent", [1.5, 1.0, float("nan"), float("inf")])
    def test_a_float_is_a_mistake_of_ours_and_raises_type_error(self, sent: Any) -> None:
        with pytest.raises(TypeError, match=r"^money is never a float$"):
            parse_fiat(sent, "usd")

    @pytest.mark.parametrize("sent", [True, False, None, [], {}, b"5", ("1",)])
    def test_what_is_neither_text_nor_number_is_refused(self, sent: Any) -> None:
        assert refusal_of(sent, "usd") == 'must be a string such as "12.34", or a number'

    @given(st.text())
    def test_any_text_is_a_positive_amount_or_an_invalid_request(self, sent: str) -> None:
        assert_amount_or_refused(sent)

    @given(st.from_regex(r"[-+]?[0-9.,eE ]{0,42}", fullmatch=True))
    def test_any_text_of_digits_and_points_is_a_positive_amount_or_an_invalid_request(self, sent: str) -> None:
        assert_amount_or_refused(sent)

    @given(st.decimals())
    def test_any_decimal_is_a_positive_amount_or_an_invalid_request(self, sent: Decimal) -> None:
        assert_amount_or_refused(sent)

    @given(FIAT)
    def test_a_point_and_a_comma_mean_the_same_where_both_are_clear(self, amount: Decimal) -> None:
        text = str(amount.quantize(Decimal("0.01")))

        assert outcome_of(text.replace(".", ",")) == outcome_of(text)


class TestFiatToSats:
    @pytest.mark.parametrize(
        ("amount", "price", "sats"),
        [
            ("1", "100000", 1_000),
            ("0.01", "100000", 10),
            ("10.99", "21283.6006", 51_636),
            ("1", "3", 33_333_334),
            ("1", "100000000", 1),
            ("1.01", "100000000", 2),
            ("21000000", "1", MAX_SATS),
        ],
    )
    def test_the_worth_is_rounded_up_to_whole_sats(self, amount: str, price: str, sats: int) -> None:
        assert fiat_to_sats(Decimal(amount), Decimal(price)) == sats

    @given(FIAT, PRICES)
    def test_the_shop_never_loses_and_never_asks_a_sat_too_many(self, amount: Decimal, price: Decimal) -> None:
        try:
            sats = fiat_to_sats(amount, price)
        except InvalidRequest:
            worth = amount * SATS_PER_BTC
            assert worth < price or worth > MAX_SATS * price
            return

        # In whole numbers, so that this test has no rounding of its own.
        scaled_amount, scaled_price = int(amount * 10**8), int(price * 10**8)
        assert sats * scaled_price >= scaled_amount * SATS_PER_BTC
        assert (sats - 1) * scaled_price < scaled_amount * SATS_PER_BTC

    def test_less_than_one_sat_is_refused_although_it_could_be_rounded_up(self) -> None:
        with pytest.raises(InvalidRequest, match=r"^is worth less than one sat$"):
            fiat_to_sats(Decimal("0.01"), Decimal("1000001"))

    @pytest.mark.parametrize(
        ("amount", "price", "most"),
        [
            ("21000000.01", "1", "21,000,000.00"),
            (str(10**30), "1", "21,000,000"),
            ("1e999", "1", "21,000,000"),
            ("99999999999", "1000", "21,000,000,000"),
            ("99999999999.00", "4761.904761", "99,999,999,981.00"),
            ("99999999999.000", "0.00000001", "0.210"),
            ("1300000000000.00", "60123.456789", "1,262,592,592,569.00"),
        ],
    )
    def test_more_than_all_bitcoin_is_refused_with_the_maximum(self, amount: str, price: str, most: str) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            fiat_to_sats(Decimal(amount), Decimal(price))

        assert refusal.value.message == f"is more than all the bitcoin there is: at most {most}"
        assert fiat_to_sats(Decimal(most.replace(",", "")), Decimal(price)) <= MAX_SATS

    @pytest.mark.parametrize("price", [Decimal(0), Decimal(-1)])
    def test_a_price_that_is_none_raises_value_error(self, price: Decimal) -> None:
        with pytest.raises(ValueError, match=r"^a price is more than zero$"):
            fiat_to_sats(Decimal(1), price)

    @pytest.mark.parametrize(("amount", "price"), [(1.0, Decimal(1)), (Decimal(1), 1.0), ("1", Decimal(1))])
    def test_floats_and_texts_raise_type_error(self, amount: Any, price: Any) -> None:
        with pytest.raises(TypeError, match=r"^fiat amounts and prices are Decimal$"):
            fiat_to_sats(amount, price)


class TestBitcoinAmounts:
    @pytest.mark.parametrize(
        ("sats", "text"),
        [(0, "0.00000000"), (1, "0.00000001"), (51_636, "0.00051636"), (MAX_SATS, "21000000.00000000")],
    )
    def test_sats_are_written_with_eight_places(self, sats: int, text: str) -> None:
        assert sats_to_btc(sats) == text

    @given(SATS)
    def test_sats_come_back_from_their_text(self, sats: int) -> None:
        assert btc_to_sats(sats_to_btc(sats)) == sats

    @given(SATS)
    def test_sats_come_back_from_their_msats(self, sats: int) -> None:
        assert msats_to_sats(sats_to_msats(sats)) == sats

    @given(st.integers(min_value=1, max_value=MAX_SATS * 1_000))
    def test_whole_sats_cover_the_msats_and_are_not_one_more(self, msats: int) -> None:
        sats = msats_to_sats(msats)

        assert (sats - 1) * 1_000 < msats <= sats * 1_000

    @pytest.mark.parametrize(
        ("text", "msats"),
        [
            ("0.00000000001", 1),
            ("0.00051636", 51_636_000),
            ("1e-8", 1_000),
            ("1E-8", 1_000),
            ("1", 100_000_000_000),
            ("0.0001", 10_000_000),
            ("20999999.99999999999", MAX_SATS * 1_000 - 1),
            ("21000000", MAX_SATS * 1_000),
            ("1".zfill(40), 100_000_000_000),
        ],
    )
    def test_a_text_of_bitcoin_is_read_to_the_msat(self, text: str, msats: int) -> None:
        assert btc_to_msats(text) == msats

    def test_a_fraction_of_a_sat_is_rounded_up(self) -> None:
        assert btc_to_sats("0.00000000001") == 1

    @pytest.mark.parametrize(
        "text",
        [
            "", " ", "-1", "−1", "+1", "NaN", "Infinity", "1,5", "1.", ".5", " 1", "1 ", "１", "0" * 41,
            "0.000000000001", "1e-12", "1.00000000000000000000000000000000000001",
            "21000000.00000001", "21000000.0000000000000000000000000000001", "1e30", "1e999",
        ],
    )  # fmt: skip
    def test_an_invalid_amount_of_bitcoin_raises_value_error(self, text: str) -> None:
        with pytest.raises(ValueError, match=NO_BITCOIN):
            btc_to_msats(text)

    @pytest.mark.parametrize("value", [1.5, 1, Decimal("0.1"), None, b"1"])
    def test_an_amount_of_bitcoin_is_read_from_text_only(self, value: Any) -> None:
        with pytest.raises(TypeError, match=r"^bitcoin amounts are strings$"):
            btc_to_msats(value)

    @pytest.mark.parametrize("convert", [sats_to_btc, sats_to_msats, msats_to_sats])
    @pytest.mark.parametrize("value", [1.0, 1.5, float("nan"), True, Decimal(1), "1", None])
    def test_sats_and_msats_are_whole_numbers_and_nothing_else(self, convert: Any, value: Any) -> None:
        with pytest.raises(TypeError, match=r"^sats and msats are whole numbers$"):
            convert(value)

    def test_negative_sats_have_no_text(self) -> None:
        with pytest.raises(ValueError, match=r"^an amount of bitcoin is not negative$"):
            sats_to_btc(-1)


def refusal_of(sent: Any, currency: str) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        parse_fiat(sent, currency)
    return str(refusal.value)


def outcome_of(sent: str) -> Decimal | str:
    try:
        return parse_fiat(sent, "usd")
    except InvalidRequest as refusal:
        return str(refusal)


def assert_amount_or_refused(sent: str | Decimal) -> None:
    try:
        amount = parse_fiat(sent, "usd")
    except InvalidRequest:
        return
    assert amount > 0
    assert amount.as_tuple().exponent == -2


def sats_or_refusal(amount: Decimal, price: Decimal) -> int | str:
    try:
        return fiat_to_sats(amount, price)
    except InvalidRequest as refusal:
        return str(refusal)


class TestParseDecimal:
    @pytest.mark.parametrize(("text", "number"), [("0.00019207", "0.00019207"), ("64250.5", "64250.5"), ("12", "12")])
    def test_it_reads_numbers_as_strike_writes_them(self, text: str, number: str) -> None:
        assert parse_decimal(text) == Decimal(number)

    @pytest.mark.parametrize(
        "text", ["", "1e3", "NaN", "Infinity", "1,5", "0x10", "١٥", "1_000", " 1", "1 ", "9" * 1_000]
    )
    def test_it_refuses_everything_else(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"^not a decimal number$"):
            parse_decimal(text)


class TestSatsToFiat:
    @pytest.mark.parametrize(
        ("sats", "price", "currency", "worth"),
        [
            (100_000_000, "97123.45", "usd", "97123.45"),
            (12_346, "100000", "usd", "12.35"),
            (500, "1000000", "usd", "5.00"),
            (1_500, "100000", "jpy", "2"),
            (2_500, "100000", "jpy", "2"),
            (1, "30000", "kwd", "0.000"),
            (0, "97123.45", "usd", "0.00"),
        ],
    )
    def test_it_has_the_decimals_of_the_currency_and_halves_go_to_even(
        self, sats: int, price: str, currency: str, worth: str
    ) -> None:
        assert str(sats_to_fiat(sats, Decimal(price), currency)) == worth

    @given(SATS, PRICES)
    def test_it_is_off_by_half_a_cent_at_most(self, sats: int, price: Decimal) -> None:
        with localcontext() as context:
            context.prec = 100
            exact = sats * price / SATS_PER_BTC

            assert abs(sats_to_fiat(sats, price, "usd") - exact) <= Decimal("0.005")

    @pytest.mark.parametrize(("sats", "price"), [(1.0, Decimal(1)), (True, Decimal(1)), (1, 1.0), (1, "1")])
    def test_a_float_raises(self, sats: Any, price: Any) -> None:
        with pytest.raises(TypeError, match=r"^(sats and msats are whole numbers|prices are Decimal)$"):
            sats_to_fiat(sats, price, "usd")


class TestTheCallersArithmetic:
    """How Decimal rounds is a setting of the thread: amounts come out the same under any setting."""

    CONTEXTS = (Context(prec=2, rounding=ROUND_UP), Context(prec=2, rounding=ROUND_DOWN), Context(traps=[Inexact]))

    @pytest.mark.parametrize("context", CONTEXTS)
    def test_it_changes_no_amount(self, context: Context) -> None:
        with localcontext(context):
            assert parse_fiat("1234.56", "usd") == Decimal("1234.56")
            assert fiat_to_sats(Decimal("10.99"), Decimal("21283.6006")) == 51_636
            assert [str(sats_to_fiat(sats, Decimal(100_000), "usd")) for sats in (12_345, 12_355)] == ["12.34", "12.36"]
            assert btc_to_msats("20999999.99999999999") == MAX_SATS * 1_000 - 1

    @given(FIAT, PRICES, st.sampled_from(CONTEXTS))
    def test_it_changes_no_price(self, amount: Decimal, price: Decimal, context: Context) -> None:
        expected = sats_or_refusal(amount, price)

        with localcontext(context):
            assert sats_or_refusal(amount, price) == expected


class TestRoundFiat:
    @pytest.mark.parametrize(
        ("sent", "currency", "expected"),
        [
            ("12.3449999999", "usd", "12.34"),
            ("12.345", "usd", "12.35"),
            (" 12.34 ", "usd", "12.34"),
            ("12,34", "usd", "12.34"),
            (Decimal("0.005"), "usd", "0.01"),
            (7, "jpy", "7"),
            ("1.5e-7", "btc", "0.00000015"),
        ],
    )
    def test_it_rounds_a_half_up(self, sent: Any, currency: str, expected: str) -> None:
        assert format(round_fiat(sent, currency), "f") == expected

    @pytest.mark.parametrize("sent", ["0", "0.004", "-1", "", "x", "1,234", "1" * 5_000, True, None])
    def test_what_is_no_amount_or_nothing_after_rounding_is_refused(self, sent: Any) -> None:
        with pytest.raises(InvalidRequest):
            round_fiat(sent, "usd")

    def test_a_float_raises_type_error(self) -> None:
        with pytest.raises(TypeError):
            round_fiat(1.5, "usd")  # type: ignore[arg-type]
