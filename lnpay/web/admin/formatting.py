"""How the operator's page writes states, times and amounts: in English, regardless of the browser's language."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from babel.numbers import format_currency

from lnpay.domain.encoding.json_text import Json, write_json_text
from lnpay.domain.text import counted

_FINE = ("settled", "delivered", "sent")
_WRONG = ("needs_address", "held", "failed", "abandoned")
_OVER = ("expired", "lapsed", "cancelled", "paid_late", "withdrawn", "canceled")

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def tone(state: str) -> str:
    """The colour of a state: fine, wrong (needs attention), over (its refund has the details), or open."""
    if state in _FINE:
        return "fine"
    if state in _WRONG:
        return "wrong"
    return "over" if state in _OVER else "open"


def plain(state: str) -> str:
    """A state in words: "needs_address" is "needs address"."""
    return state.replace("_", " ")


def moment(at: datetime) -> str:
    """A time to the second: "23 Nov 2026, 05:12:40"."""
    utc = at.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M:%S}"


def length(span: timedelta) -> str:
    """About how long: "3 hours"."""
    seconds = int(span.total_seconds())
    for size, unit in _UNITS:
        if seconds >= size:
            count = seconds // size
            return counted(count, unit)
    return "a moment"


def fiat(amount: Decimal, currency: str) -> str:
    """An amount of money, never rounded."""
    if currency == "sats":
        return sats(int(amount))
    if currency == "btc":
        return f"{amount:,f} BTC"
    return format_currency(amount, currency.upper(), locale="en", decimal_quantization=False)


def price(amount: Decimal, currency: str) -> str:
    """The price of one bitcoin, with the decimals of an amount of money."""
    return format_currency(amount, currency.upper(), locale="en")


def sats(amount: int) -> str:
    """An amount in whole sats: "1,234 sats"."""
    return counted(amount, "sat")


def metadata(value: Json) -> list[tuple[str, str]]:
    """A shop's metadata as names and texts: values other than texts are written as JSON."""
    named = value.items() if isinstance(value, dict) else [("Metadata", value)]
    return [(name, one if isinstance(one, str) else write_json_text(one, ensure_ascii=False)) for name, one in named]
