"""The dates in the headers of Strike's answers."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from lnpay.http.outgoing import HttpAnswer


def date_of(response: HttpAnswer) -> datetime | None:
    """When an answer was given, by its Date; None if that is missing or unreadable."""
    return read_date(response.headers.get("Date"))


def is_from_strike_now(response: HttpAnswer) -> bool:
    """Whether the Date is from Strike itself, just now; pages of proxies and caches carry other dates."""
    is_cached = response.headers.get("Age", "0").strip() != "0"
    return not is_cached and "json" in response.headers.get("Content-Type", "")


def read_date(header: str | None) -> datetime | None:
    """A date in a header, aware; None if it is missing or unreadable."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
