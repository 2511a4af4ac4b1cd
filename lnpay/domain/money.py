"""Sats, millisats and fiat: the only module that rounds.

Sats are whole `int`, fiat and prices are `Decimal`; a float raises, everywhere. 1 BTC = 100,000,000 sats.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, localcontext

from lnpay.domain.errors import InvalidRequest

BTC = "BTC"
"""Bitcoin, as Strike writes it."""

STRIKE_CURRENCIES = (BTC, "USD", "EUR", "USDT", "GBP", "AUD")
"""Every currency that Strike supports; an account's profile lists those that it holds."""

SATS_PER_BTC = 100_000_000
MSATS_PER_SAT = 1_000

MAX_SATS = 21_000_000 * SATS_PER_BTC
"""All the bitcoin that can ever exist; no valid amount exceeds it."""

MAX_AMOUNT_CHARACTERS = 40
"""The longest amount worth reading; it keeps 10**30 readable and a megabyte of digits out of Decimal."""

CURRENCIES: frozenset[str] = frozenset(
    [
        "aed",
        "ars",
        "aud",
        "bdt",
        "bhd",
        "bmd",
        "brl",
        "cad",
        "chf",
        "clp",
        "cny",
        "czk",
        "dkk",
        "eur",
        "gbp",
        "gel",
        "hkd",
        "huf",
        "idr",
        "ils",
        "inr",
        "jpy",
        "krw",
        "kwd",
        "lkr",
        "mmk",
        "mxn",
        "myr",
        "ngn",
        "nok",
        "nzd",
        "php",
        "pkr",
        "pln",
        "rub",
        "sar",
        "sek",
        "sgd",
        "thb",
        "try",
        "twd",
        "uah",
        "usd",
        "vnd",
        "zar",
    ]
)
"""The fiat codes of CoinGecko's supported_vs_currencies. VEF is left out: it ended in 2018, and its price is frozen."""

BITCOIN_UNITS = {"btc": Decimal(1), "sats": Decimal(SATS_PER_BTC)}
"""The units of bitcoin itself, and how many of each make one bitcoin. Amounts in them need no price."""

INVOICE_CURRENCIES = CURRENCIES | BITCOIN_UNITS.keys()
"""Every currency or unit in which an invoice can be issued."""

_DECIMALS = {
    **dict.fromkeys(("clp", "jpy", "krw", "vnd", "sats"), 0),
    **dict.fromkeys(("bhd", "kwd"), 3),
    "btc": 8,
}
"""ISO 4217 minor units that are not 2, and those of bitcoin."""

_SMALLEST = {0: Decimal("1"), 2: Decimal("0.01"), 3: Decimal("0.001"), 8: Decimal("0.00000001")}
"""The smallest amount in a currency of so many decimals."""

_ARITHMETIC = Context(prec=2 * MAX_AMOUNT_CHARACTERS + 1000, rounding=ROUND_HALF_EVEN)
"""More digits than any amount has, and the same in every thread, regardless of the thread's own context."""

_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"(?P<whole>[0-9]+),(?P<fraction>[0-9]+)")
_THREE_DIGITS_AFTER = re.compile(r"(?P<whole>[0-9]{1,3})[.,](?P<rest>[0-9]{3})")
"""One group of thousands, or three decimals. "1500.000" and "0.500" are no group; "12.34000000" neither."""

_GROUPED = re.compile(r"[0-9]{1,3}(?:[.,'’´`_\u066c\s][0-9]{2,3})*[.,'’´`_\u066c\s][0-9]{3}(?:[.,][0-9]+)?")
"""Thousands as different countries write them, Indian groups of two and narrow spaces included."""

_WITH_COMMA = re.compile(r"(?=.*,)[0-9][0-9.,'’´`_\u066c\s]*[0-9]")
"""Digits and separators, a comma among them, in no form above."""

_EXPONENT = re.compile(r"[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{1,3}")


@dataclass(frozen=True)
class CurrencyAmount:
    """An amount in one of Strike's currencies, whose codes are in upper case."""

    amount: Decimal
    currency: str

    @property
    def sats(self) -> int | None:
        """Whole sats, a fraction rounded up; None in another currency."""
        return None if self.msats is None else msats_to_sats(self.msats)

    @property
    def msats(self) -> int | None:
        """The same exactly, in msats."""
        return btc_to_msats(format(self.amount, "f")) if self.currency == BTC else None


def decimals_of(currency: str) -> int:
    """Number of decimals `currency` (lower-case code) is written with: 0, 2, 3, or 8 for bitcoin."""
    return _DECIMALS.get(currency, 2)


def read_currency(text: str) -> str:
    """The lower-case code of a currency that an invoice can be issued in. Takes "EUR", "btc" or "SATS".

    Raises InvalidRequest for any other text.
    """
    code = text.strip().lower()
    if code not in INVOICE_CURRENCIES:
        raise InvalidRequest('is not a supported currency: send a code such as "usd", "eur", "btc" or "sats"')
    return code


def parse_fiat(value: str | int | Decimal, currency: str) -> Decimal:
    """Parse an amount that a shop sent: "12.34", "0,01" (a decimal comma), 12 or Decimal("12.34").

    Returns a positive Decimal with exactly the currency's decimals.
    Raises InvalidRequest, with a message for the shop's developer, for anything invalid or ambiguous: "1,234" and
    "15.000" are read differently in different countries. A JSON number is never ambiguous.
    """
    decimals = decimals_of(currency)
    amount = _read_decimal(value, decimals)
    if amount <= 0:
        raise InvalidRequest("must be more than zero")
    with localcontext(_ARITHMETIC):
        exact = amount.quantize(_SMALLEST[decimals])
    # An amount is never rounded to fit: 0.001 USD is a mistake at the shop, not a cent.
    if exact != amount:
        unit = "no decimals" if decimals == 0 else f"at most {decimals} decimals"
        raise InvalidRequest(f"is too fine: {currency.upper()} has {unit}")
    return exact


def round_fiat(value: str | int | Decimal, currency: str) -> Decimal:
    """Parse an amount with a decimal point, and round it to the currency's decimals, half up.

    For shop software that calculates with more decimals than the currency has, for taxes or conversions: such a total
    is not a mistake, and BTCPay Server rounds it in the same way. In a string, a point always separates decimals.
    Raises InvalidRequest as `parse_fiat` does, also for what is rounded to zero.
    """
    if isinstance(value, str) and len(value) <= MAX_AMOUNT_CHARACTERS:
        text = value.strip()
        value = Decimal(text) if _PLAIN.fullmatch(text) or _EXPONENT.fullmatch(text) else value
    decimals = decimals_of(currency)
    amount = _read_decimal(value, decimals)
    with localcontext(_ARITHMETIC):
        rounded = amount.quantize(_SMALLEST[decimals], rounding=ROUND_HALF_UP)
    if rounded <= 0:
        raise InvalidRequest("must be more than zero")
    return rounded


def _read_decimal(value: str | int | Decimal, decimals: int) -> Decimal:
    if isinstance(value, float):
        raise TypeError("money is never a float")
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InvalidRequest('must be a string such as "12.34", or a number')
    if isinstance(value, int) and abs(value) >= 10**MAX_AMOUNT_CHARACTERS:
        raise InvalidRequest(f"is longer than {MAX_AMOUNT_CHARACTERS} characters")
    text = str(value).strip()
    if not text:
        raise InvalidRequest('is empty: send an amount such as "12.34"')
    if len(text) > MAX_AMOUNT_CHARACTERS:
        raise InvalidRequest(f"is longer than {MAX_AMOUNT_CHARACTERS} characters")
    if text.startswith(("-", "−")):
        raise InvalidRequest("must be more than zero")
    if isinstance(value, str):
        _refuse_two_readings(text, decimals)
        text = _with_decimal_point(text)
    if not (_PLAIN.fullmatch(text) or _EXPONENT.fullmatch(text)):
        raise InvalidRequest('is not an amount: send a number such as "12.34"')
    return Decimal(text)


def _refuse_two_readings(text: str, decimals: int) -> None:
    """Raise for a string that is read differently in different countries, or that has thousands separators.

    "15.000" is fifteen where a point separates decimals, and fifteen thousand where it separates thousands. This
    applies to every currency, because a shop's software formats all of them in the same way.
    """
    match = _THREE_DIGITS_AFTER.fullmatch(text)
    if match is not None and match["whole"] != "0":
        small = _with_clear_decimals(match["whole"], match["rest"], decimals)
        large = f"{match['whole']}{match['rest']}".lstrip("0") or "0"
        choice = f'"{large}"' + (f' or "{small}"' if small else "")
        sign = "comma" if "," in text else "point"
        raise InvalidRequest(f"is ambiguous: the {sign} could separate thousands or decimals; write {choice}")
    is_plain = _PLAIN.fullmatch(text) or _DECIMAL_COMMA.fullmatch(text)
    if not is_plain and (_WITH_COMMA.fullmatch(text) or _GROUPED.fullmatch(text)):
        raise InvalidRequest(
            "is ambiguous: it seems to have thousands separators; "
            'write it without them and with a decimal point, as in "1234.50"'
        )


def _with_clear_decimals(whole: str, fraction: str, decimals: int) -> str | None:
    """An amount written so that it cannot mean thousands; None if the currency has too few decimals for that."""
    needed = len(fraction.rstrip("0"))
    if needed > decimals:
        return None
    if decimals == 0:
        return whole
    # Exactly three digits after the point are ambiguous; a fourth zero resolves that and does not change the amount.
    return f"{whole}.{fraction[:2]}" if needed <= 2 else f"{whole}.{fraction}0"


def _with_decimal_point(text: str) -> str:
    match = _DECIMAL_COMMA.fullmatch(text)
    return text if match is None else f"{match['whole']}.{match['fraction']}"


def fiat_to_sats(amount_fiat: Decimal, price: Decimal) -> int:
    """Sats worth `amount_fiat` at `price` (fiat per bitcoin), rounded up: the shop never loses.

    Raises InvalidRequest if that is less than one sat, or more than all bitcoin (the message states the maximum).
    """
    if not (isinstance(amount_fiat, Decimal) and isinstance(price, Decimal)):
        raise TypeError("fiat amounts and prices are Decimal")
    if price <= 0:
        raise ValueError("a price is more than zero")
    with localcontext(_ARITHMETIC):
        exact = amount_fiat * SATS_PER_BTC / price
        if exact < 1:
            raise InvalidRequest("is worth less than one sat")
        if exact > MAX_SATS:
            raise InvalidRequest(f"is more than all the bitcoin there is: at most {_most_fiat(amount_fiat, price):,f}")
        return int(exact.to_integral_value(rounding=ROUND_CEILING))


def refund_sats(amount_fiat: Decimal, price: Decimal, left_sats: int) -> int:
    """Sats that refund `amount_fiat` at `price` (fiat per bitcoin), rounded down: the shop never loses.

    left_sats: what can still be refunded. If `fiat_to_sats` rounds `amount_fiat` to exactly that, all of it is
    refunded, so that refunding the whole price at the rate of the sale leaves no sat behind.
    Raises InvalidRequest when that is less than one sat, or more than all bitcoin.
    """
    rounded_up = fiat_to_sats(amount_fiat, price)
    if rounded_up == left_sats:
        return left_sats
    with localcontext(_ARITHMETIC):
        return int((amount_fiat * SATS_PER_BTC / price).to_integral_value(rounding=ROUND_FLOOR))


def _most_fiat(amount_fiat: Decimal, price: Decimal) -> Decimal:
    """What all bitcoin is worth, rounded down, with as many decimals as `amount_fiat` has."""
    exponent = min(0, int(amount_fiat.as_tuple().exponent))
    return (price * (MAX_SATS // SATS_PER_BTC)).quantize(Decimal(1).scaleb(exponent), rounding=ROUND_FLOOR)


def sats_to_fiat(sats: int, price: Decimal, currency: str) -> Decimal:
    """What `sats` are worth at `price` (fiat per bitcoin), for books: rounded to the currency's decimals, half to even.

    Never used to charge or pay anything.
    """
    if not isinstance(price, Decimal):
        raise TypeError("prices are Decimal")
    with localcontext(_ARITHMETIC):
        exact = _whole(sats) * price / SATS_PER_BTC
        return exact.quantize(_SMALLEST[decimals_of(currency)])


def parse_decimal(text: str) -> Decimal:
    """The number in a plain decimal string, as Strike writes amounts and rates. Raises ValueError for anything else."""
    if len(text) > MAX_AMOUNT_CHARACTERS or not _PLAIN.fullmatch(text):
        raise ValueError("not a decimal number")
    return Decimal(text)


def conversion_rate(credited: Decimal, sats: int) -> Decimal:
    """What one bitcoin was worth when `sats` became `credited`, to four places, half to even. For books."""
    with localcontext(_ARITHMETIC):
        return (credited * SATS_PER_BTC / _whole(sats)).quantize(Decimal("0.0001"))


def sats_to_btc(sats: int) -> str:
    """Decimal string with 8 places, as Strike writes bitcoin: 51636 gives "0.00051636"."""
    if _whole(sats) < 0:
        raise ValueError("an amount of bitcoin is not negative")
    whole, rest = divmod(sats, SATS_PER_BTC)
    return f"{whole}.{rest:08d}"


def btc_to_sats(text: str) -> int:
    """Whole sats of a decimal string of bitcoin; a fraction of a sat is rounded up. Inverse of sats_to_btc.

    Raises ValueError for what is not a finite, non-negative decimal number in digits.
    """
    return msats_to_sats(btc_to_msats(text))


def btc_to_msats(text: str) -> int:
    """Whole msats of a decimal string of bitcoin (11 places at most). Raises ValueError for anything else.

    That includes more than all the bitcoin there is, which would not fit into a database column.
    """
    if not isinstance(text, str):
        raise TypeError("bitcoin amounts are strings")
    if len(text) > MAX_AMOUNT_CHARACTERS or not (_PLAIN.fullmatch(text) or _EXPONENT.fullmatch(text)):
        raise ValueError("not an amount of bitcoin")
    with localcontext(_ARITHMETIC):
        msats = Decimal(text) * SATS_PER_BTC * MSATS_PER_SAT
        if msats > MAX_SATS * MSATS_PER_SAT:
            raise ValueError("more than all the bitcoin there is")
        if msats != msats.to_integral_value():
            raise ValueError("finer than a millisat")
        return int(msats)


def msats_to_sats(msats: int) -> int:
    """Whole sats that cover `msats`, rounded up."""
    return -(-_whole(msats) // MSATS_PER_SAT)


def sats_to_msats(sats: int) -> int:
    """Millisats in `sats`."""
    return _whole(sats) * MSATS_PER_SAT


def _whole(amount: int) -> int:
    if type(amount) is not int:
        raise TypeError("sats and msats are whole numbers")
    return amount
