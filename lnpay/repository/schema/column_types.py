"""Column types that refuse values which a database would accept or silently change."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator

from lnpay.domain.encoding.json_text import Json, read_json_text, write_json_text

EARLIEST_YEAR, LATEST_YEAR = 1970, 2999
"""Times outside these years are errors, because arithmetic with them would overflow."""

_DIGITS = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")


class UtcDateTime(TypeDecorator[datetime]):
    """A UTC-aware datetime; SQLite, which has no time zones, stores it as naive UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError("times are UTC-aware")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if not EARLIEST_YEAR <= value.year <= LATEST_YEAR:
            raise ValueError("a time that LNPay never writes")
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """A Decimal stored as text, because SQLite's NUMERIC would convert it to a float."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if not isinstance(value, Decimal):
            raise TypeError("fiat amounts and prices are Decimal")
        return format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        if value is None:
            return None
        if _DIGITS.fullmatch(value) is None:
            raise ValueError("not an amount")
        return Decimal(value)


class WholeSats(TypeDecorator[int]):
    """Whole sats: SQLite would store a fraction, and PostgreSQL would silently round it."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        if value is not None and type(value) is not int:
            raise TypeError("sats are whole numbers")
        return value

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:
        if value is not None and (type(value) is not int or value < 0):
            raise ValueError("not an amount of sats")
        return value


class AnyJson(TypeDecorator[Any]):
    """Any JSON value as text; its numbers keep their form."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Json, dialect: Dialect) -> str:
        return write_json_text(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Json:
        return None if value is None else read_json_text(value)


class JsonText(TypeDecorator[dict[str, Any]]):
    """A JSON object as text, with Decimals (never floats) for its fractions."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, default=str, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any] | None:
        return None if value is None else read_json_object(value)


def read_json_object(text: str) -> dict[str, Any]:
    """The JSON object in a text of a column of JsonText. Raises ValueError or TypeError."""
    known = json.loads(text, parse_float=Decimal)
    if not isinstance(known, dict):
        raise TypeError("not a JSON object")
    return known
