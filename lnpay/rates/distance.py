"""How far apart two prices are, and how far they may be."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from lnpay.domain.model import Rate

LONE_PERCENT = Decimal(5)
"""How far a price that came alone may be from the last one, or as far as two sources may differ, if that is more."""

LONE_PERCENT_PER_HOUR = Decimal(5)
"""What is added for each hour since: several times what the price moves in its wildest hours."""

OTHER_MARKET_PERCENT = Decimal(100)
"""The fixed part between two sources that are never compared (RATE_MAX_SPREAD_PERCENT=0): they may show two markets."""


def lone_limit_percent(rate: Rate, last: Rate, max_spread_percent: Decimal) -> Decimal:
    """How far a price that came alone may be from the last one believed: a fixed part, and a part for each hour since.

    A price of an hour ago allows 10 percent with the default spread, one of a day ago 125. After a week even ten times
    the last price is allowed: a shop that was closed for long must be able to sell again.
    """
    allowed = max(max_spread_percent, LONE_PERCENT)
    if not max_spread_percent and rate.source != last.source:
        allowed = OTHER_MARKET_PERCENT
    hours = Decimal(seconds_between(rate, last)) / 3600
    return allowed + LONE_PERCENT_PER_HOUR * hours


def seconds_between(one: Rate, other: Rate) -> int:
    """How far apart their times are."""
    # In both directions: after the clock was set back, a price from "later" is of no known age.
    return abs(int((one.as_of - other.as_of).total_seconds()))


def distance_percent(one: Rate, other: Rate) -> Decimal:
    """How much higher the higher price is, in percent of the lower one."""
    low, high = sorted((one.price, other.price))
    return (high - low) * 100 / low


def spread_of(answers: Sequence[Rate]) -> Decimal | None:
    """How far apart the answers are, as a part of the lowest; None of fewer than two."""
    prices = [answer.price for answer in answers]
    return (max(prices) - min(prices)) / min(prices) if len(prices) > 1 else None
