"""Which prices are trusted: two sources must agree, and a single source's price must be near the last ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from lnpay.domain.errors import LnpayError
from lnpay.domain.model import Clock, Rate
from lnpay.rates.shared import SharedPrice

log = logging.getLogger(__name__)

LONE_PERCENT = Decimal(5)
"""How far a price that came alone may be from the last one, or as far as two sources may differ, if that is more."""

LONE_PERCENT_PER_HOUR = Decimal(5)
"""What is added for each hour since: several times what the price moves in its wildest hours."""

OTHER_MARKET_PERCENT = Decimal(100)
"""The fixed part between two sources that are never compared (RATE_MAX_SPREAD_PERCENT=0): they may show two markets."""

DISAGREEMENT_LASTS = timedelta(hours=1)
"""For so long after two sources disagreed, one of them alone is not believed if there is no last price."""


class PriceGuard:
    """What one server has believed so far, and whether it believes the next price. For one thread at a time.

    last_sold: what this installation last sold at, also before a restart or in another process.
    """

    def __init__(
        self, currency: str, clock: Clock, max_spread_percent: Decimal, last_sold: Callable[[], Rate | None]
    ) -> None:
        self._currency = currency
        self._clock = clock
        self._max_spread_percent = max_spread_percent
        self._last_sold = last_sold
        self._last_believed: Rate | None = None
        self._last_agreed: Rate | None = None
        self._last_shared: Rate | None = None
        self._disagreed_at: datetime | None = None

    def believes(self, answers: Sequence[Rate]) -> bool:
        """Whether the first answer of the sources may be used for a sale. Kept for later comparisons."""
        if len(answers) > 1:
            if not self._do_agree(answers):
                self._disagreed_at = self._clock()
                return False
            self._last_agreed, self._disagreed_at = answers[0], None
        elif answers and not self._is_lone_believable(answers[0]):
            return False
        if answers:
            self._last_believed = answers[0]
        return True

    def note_shared(self, found: SharedPrice) -> None:
        """Keep what servers share for later comparisons, whether or not it is believed now."""
        self._last_shared = None if found.rate is None else replace(found.rate, as_of=found.true_at)
        if not found.is_usable:
            self._disagreed_at = found.read_at

    def believes_shared(self, found: SharedPrice) -> bool:
        """The same as `believes` for the price of another server, which has believed it too.

        Also one on which two sources agreed must be near our last ones: the row may be damaged. If it is not near,
        our own question to the sources decides.
        """
        if found.rate is None or (found.spread is not None and found.spread * 100 > self._max_spread_percent):
            return False
        rate = replace(found.rate, as_of=found.true_at)
        if not self._is_near(rate, [self._last_believed, self._last_agreed], "shared"):
            return False
        if found.spread is not None:
            self._last_agreed, self._disagreed_at = rate, None
        self._last_believed = rate
        return True

    def _do_agree(self, answers: Sequence[Rate]) -> bool:
        for one, other in pairwise(answers):
            if distance_percent(one, other) > self._max_spread_percent:
                log.error(
                    "rate sources disagree RATE_MAX_SPREAD_PERCENT=%s currency=%s %s=%s %s=%s",
                    *(self._max_spread_percent, self._currency),
                    *(one.source, one.price, other.source, other.price),
                )
                return False
        return True

    def _is_lone_believable(self, rate: Rate) -> bool:
        return self._is_near(rate, [self._last_believed, self._last_agreed, self._last_shared], "lone")

    def _is_near(self, rate: Rate, lasts: Sequence[Rate | None], kind: str) -> bool:
        """Whether the price is near each of the last ones and that of the last sale. kind: what the log calls it."""
        try:
            sold = self._last_sold()
        except LnpayError as error:
            log.warning("%s rate not compared source=%s error=%s", kind, rate.source, type(error).__name__)
            return False
        known = [one for one in (*lasts, sold) if one is not None]
        if kind == "lone" and not known and self._has_disagreed_recently():
            log.error("lone rate rejected source=%s reason=the sources disagreed recently", rate.source)
            return False
        for last in known:
            limit = lone_limit_percent(rate, last, self._max_spread_percent)
            if distance_percent(rate, last) > limit:
                log.error(
                    "%s rate rejected currency=%s %s=%s last=%s of=%s age_seconds=%d limit_percent=%d",
                    *(kind, self._currency, rate.source, rate.price, last.price, last.source),
                    *(seconds_between(rate, last), limit),
                )
                return False
        return True

    def _has_disagreed_recently(self) -> bool:
        at = self._disagreed_at
        return at is not None and timedelta(0) <= self._clock() - at < DISAGREEMENT_LASTS


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
