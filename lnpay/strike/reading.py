"""Parse Strike's JSON: values of any type become ours, or raise.

ValueError, TypeError and KeyError mean that one value is invalid; StrikeAmbiguous, that a whole answer is.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

from lnpay.domain.errors import StrikeAmbiguous
from lnpay.domain.money import btc_to_msats, btc_to_sats

PAGE_SIZE = 100
"""The largest page that Strike returns."""

SMALLEST_PAGE = 10
"""A page with fewer rows is the last, even if Strike does not count the rows or returns pages of another size."""

READS_LAG = timedelta(seconds=30)
"""Strike's answers may be this far behind its events, and show what was true before. Not documented."""

ODD = (KeyError, ValueError, TypeError, ArithmeticError)
"""What reading one invalid value may raise."""


def parse_json(content: bytes) -> object:
    """JSON, with fractions as Decimal. Raises only ValueError, for any bytes."""
    try:
        return json.loads(content, parse_float=_number, parse_int=_whole_number, parse_constant=_refuse_constant)
    except RecursionError as error:  # a thousand brackets
        raise ValueError("nested too deeply") from error


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:  # an exponent too large for Decimal: one invalid value must not hide the rest of an answer
        return Decimal("NaN")


def _whole_number(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:  # Python refuses more than 4,300 digits
        return _number(text)


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def read_object(value: object) -> dict[str, Any]:
    """`value` as a JSON object. Raises StrikeAmbiguous."""
    if not isinstance(value, dict):
        raise StrikeAmbiguous("Strike's answer is not an object")
    return value


def read_array(value: object) -> list[dict[str, Any]]:
    """The objects in a JSON array; other elements are dropped. Raises StrikeAmbiguous."""
    if not isinstance(value, list):
        raise StrikeAmbiguous("Strike's answer is not a list")
    return [item for item in value if isinstance(item, dict)]


def read_items(value: object) -> list[object]:
    """The rows of Strike's list envelope, unparsed. Raises StrikeAmbiguous."""
    items = read_object(value).get("items")
    if not isinstance(items, list):
        raise StrikeAmbiguous("Strike's list has no items")
    return items


def read_total(value: object) -> int | None:
    """How many rows the whole list has, as its envelope says; None if it does not."""
    envelope = read_object(value)
    total = envelope.get("count")
    is_known = isinstance(total, int) and not isinstance(total, bool) and not envelope.get("isCountUnknown")
    return total if is_known else None


def check_not_cut(rows: int, skip: int, total: int | None) -> None:
    """Raise StrikeAmbiguous for a page without rows after full ones, if the list goes on: Strike gives no more of it.

    After pages that were not full, `total` may count other rows too.
    """
    if rows == 0 and skip and skip % PAGE_SIZE == 0 and total is not None and total > skip:
        raise StrikeAmbiguous("Strike's list ends before all of its rows")


def is_last_page(rows: int, skip: int, total: int | None) -> bool:
    """Whether a page of so many rows, read from `skip` on, ends the list.

    total: of the whole list; 0 or None if Strike does not count. A page may be shorter than requested, so without a
    count only a very short one is the last.
    """
    if rows and total:
        return rows < PAGE_SIZE and total <= skip + rows
    return rows < SMALLEST_PAGE


def read_text(value: object) -> str:
    """A non-empty text. Raises TypeError."""
    if not isinstance(value, str) or not value:
        raise TypeError("a text is missing")
    return value


def read_sats(money: object) -> int | None:
    """The whole sats of Strike's money object; None if it is not bitcoin. Raises one of ODD."""
    if not isinstance(money, dict) or money.get("currency") != "BTC":
        return None
    return btc_to_sats(read_text(money["amount"]))


def read_msats_or_none(money: object) -> int | None:
    """The msats of Strike's money object; None if it is not bitcoin, or cannot be read."""
    if not isinstance(money, dict) or money.get("currency") != "BTC":
        return None
    try:
        return btc_to_msats(read_text(money.get("amount")))
    except ODD:
        return None


def read_sats_or_none(money: object) -> int | None:
    """The sats, if readable: a payment's outcome is known without them."""
    try:
        return read_sats(money)
    except ODD:
        return None


def parse_time(value: object) -> datetime:
    """A UTC-aware time from Strike's ISO 8601, whose fractions have 3 to 7 digits. Raises ValueError or TypeError."""
    moment = datetime.fromisoformat(read_text(value))
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time before the year 1 or after 9999") from error
