"""The price of one bitcoin in the shop's currency, with its age and its source.

A price is money, so it is trusted only if it is recent and a second source agrees. If no second source
answers, it must be close to the last trusted price.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from math import ceil

from lnpay.domain.errors import LnpayError, RateUnavailable
from lnpay.domain.model import Clock, Rate
from lnpay.rates.sources import RateSource, RateSourceError

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 15.0
"""How long a request waits for a refresh by another request."""

LONE_PERCENT = Decimal(5)
"""How far a price that came alone may be from the last one, or as far as two sources may differ, if that is more."""

LONE_PERCENT_PER_HOUR = Decimal(5)
"""What is added for each hour since: several times what the price moves in its wildest hours."""

OTHER_MARKET_PERCENT = Decimal(100)
"""The fixed part between two sources that are never compared (RATE_MAX_SPREAD_PERCENT=0): they may show two markets."""

DISAGREEMENT_LASTS = timedelta(hours=1)
"""For so long after two sources disagreed, one of them alone is not believed if there is no last price."""


class Refresh(StrEnum):
    """What a refresh of the price came to."""

    FETCHED = "fetched"
    FAILED = "failed"  # no source returned a price
    DISAGREED = "disagreed"  # two sources did, or one source and the last price: none is trusted


@dataclass(frozen=True)
class RateStatus:
    """The state of the price, for monitoring.

    rate: the last one that was believed, however old. spread: how far apart the sources were when they were last
    asked, as a part of the lower price; None when fewer than two answered.
    """

    rate: Rate | None
    max_age: timedelta
    spread: Decimal | None
    refreshes: Mapping[Refresh, int]


def start_daemon_thread(task: Callable[[], None]) -> None:
    """Run `task` beside everything else; it does not keep the process alive."""
    threading.Thread(target=task, name="rate-refresh", daemon=True).start()


class Rates:
    """The price that may be used now. Safe to share between threads.

    - Fetched less than `fresh_seconds` ago: used as it is.
    - Older, but true less than `max_age_seconds` ago: used, while one refresh runs off the request path.
    - Older still, or none: fetched now; one thread asks, the others wait for it.

    A refresh asks the sources in their order until two have answered, and the first one's price counts. When the two
    differ by more than `max_spread_percent`, nothing is believed, not even the price that was stored. With 0 the
    comparison is off, and one answer is enough.
    A price that comes alone is held against the last ones believed, `last_sold` included: what this installation last
    sold at, also before a restart or in another process. The allowed distance grows with their age (see
    `lone_limit_percent`). After a disagreement and without any price to compare with, it is not believed for an hour.
    After a failed refresh there is none for `retry_seconds`, so that an outage is not hammered.
    """

    def __init__(
        self,
        sources: Sequence[RateSource],
        currency: str,
        *,
        clock: Clock,
        max_age_seconds: int = 300,
        max_spread_percent: Decimal = Decimal(5),
        fresh_seconds: int = 60,
        retry_seconds: int = 5,
        run_in_background: Callable[[Callable[[], None]], None] = start_daemon_thread,
        last_sold: Callable[[], Rate | None] = lambda: None,
    ) -> None:
        self._sources = sources
        self._currency = currency
        self._clock = clock
        self._max_age = timedelta(seconds=max_age_seconds)
        self._max_spread_percent = max_spread_percent
        self._fresh = timedelta(seconds=fresh_seconds)
        self._retry = timedelta(seconds=retry_seconds)
        self._run_in_background = run_in_background
        self._last_sold = last_sold
        # Only the thread that refreshes uses these.
        self._last_believed: Rate | None = None
        self._last_agreed: Rate | None = None
        self._disagreed_at: datetime | None = None
        # Guards what follows; never held while a source is asked.
        self._changed = threading.Condition()
        self._stored: Rate | None = None
        self._fetched_at: datetime | None = None
        self._failed_at: datetime | None = None
        self._is_refreshing = False
        self._spread: Decimal | None = None
        self._refreshes: Counter[Refresh] = Counter()

    def current(self) -> Rate:
        """Price of one bitcoin, never older than `max_age_seconds`.

        Raises RateUnavailable, with the seconds to wait before retrying.
        """
        with self._changed:
            rate = self._usable()
            is_due = rate is not None and self._is_refresh_due() and self._claim()
        if rate is None:
            return self._wait_or_fetch()
        if is_due:
            self._refresh_in_background()
        return rate

    def current_within(self, seconds: float) -> Rate:
        """The same as `current`, but fetched less than `fresh_seconds` ago, if that succeeds within `seconds`.

        A fetch that takes longer goes on, for the next caller. Raises RateUnavailable.
        """
        with self._changed:
            is_due = self._is_refresh_due() and self._claim()
        if is_due:
            self._refresh_in_background()
        with self._changed:
            self._changed.wait_for(lambda: not self._is_refreshing, timeout=seconds)
            rate = self._usable()
            if rate is None:
                raise self._unavailable()
            return rate

    def warm_up(self) -> None:
        """Fetch the first price off the request path, so that the first customer does not wait for it."""
        with self._changed:
            is_due = self._stored is None and self._claim()
        if is_due:
            self._refresh_in_background()

    def status(self) -> RateStatus:
        """The state of the price now. Makes no call."""
        with self._changed:
            counted = {one: self._refreshes[one] for one in Refresh}
            return RateStatus(self._stored, self._max_age, self._spread, counted)

    # The methods from here to _claim are called with the lock held.

    def _usable(self) -> Rate | None:
        # The difference in both directions: after the clock was set back, a price from "later" is of no known age.
        if self._stored is None or abs(self._clock() - self._stored.as_of) > self._max_age:
            return None
        return self._stored

    def _is_refresh_due(self) -> bool:
        return not self._is_within(self._fetched_at, self._fresh) and not self._is_within(self._failed_at, self._retry)

    def _is_within(self, since: datetime | None, length: timedelta) -> bool:
        return since is not None and timedelta(0) <= self._clock() - since < length

    def _claim(self) -> bool:
        """Claim the refresh; False if one is running already. A caller that gets True must call _refresh."""
        if self._is_refreshing:
            return False
        self._is_refreshing = True
        return True

    def _wait_or_fetch(self) -> Rate:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_refreshing, timeout=MAX_WAIT_SECONDS)
            rate = self._usable()
            if rate is not None:
                return rate
            if self._is_within(self._failed_at, self._retry) or not self._claim():
                raise self._unavailable()
        self._refresh()
        with self._changed:
            rate = self._usable()
            if rate is None:
                raise self._unavailable()
            return rate

    def _unavailable(self) -> RateUnavailable:
        left = self._retry
        if self._failed_at is not None and self._is_within(self._failed_at, self._retry):
            left -= self._clock() - self._failed_at
        return RateUnavailable(
            "The price of bitcoin is not known right now. Please try again in a moment.",
            retry_after_seconds=max(1, ceil(left.total_seconds())),
        )

    def _refresh_in_background(self) -> None:
        try:
            self._run_in_background(self._refresh)
        except RuntimeError:
            # Out of threads: the stored price is still valid, and a later request tries again.
            log.warning("rate refresh not started reason=no thread")
            self._finish([], is_trusted=True)

    def _refresh(self) -> None:
        """Ask the sources and store the result if it can be trusted. Only for the holder of the claim."""
        answers: list[Rate] = []
        is_trusted = True
        try:
            answers = self._ask_sources()
            is_trusted = self._is_believable(answers)
        finally:
            # Also after a bug in a source: the claim must be released, or no thread could refresh again.
            self._finish(answers, is_trusted=is_trusted)

    def _finish(self, answers: Sequence[Rate], *, is_trusted: bool) -> None:
        """Let the next one refresh, with a new price, with the old one, or (not trusted) with none."""
        with self._changed:
            now = self._clock()
            if answers and is_trusted:
                self._stored, self._fetched_at, self._failed_at = answers[0], now, None
            else:
                self._stored = self._stored if is_trusted else None
                self._failed_at = now
            self._spread = _spread(answers)
            self._refreshes[_outcome(answers, is_trusted=is_trusted)] += 1
            self._is_refreshing = False
            self._changed.notify_all()

    def _ask_sources(self) -> list[Rate]:
        wanted = 2 if self._max_spread_percent else 1
        answers: list[Rate] = []
        for source in self._sources:
            rate = self._ask(source)
            if rate is not None:
                answers.append(rate)
            if len(answers) == wanted:
                break
        if not answers:
            log.error("no price from any rate source currency=%s", self._currency)
        return answers

    def _ask(self, source: RateSource) -> Rate | None:
        try:
            rate = source.fetch(self._currency)
            if rate is not None and self._clock() - rate.as_of > self._max_age:
                raise RateSourceError("answered with a price that is too old")
        except RateSourceError as error:
            log.warning("rate source failed source=%s reason=%s", source.name, error)
            return None
        if rate is None:
            log.info("currency unknown to rate source source=%s currency=%s", source.name, self._currency)
        return rate

    def _is_believable(self, answers: Sequence[Rate]) -> bool:
        """Whether the first answer may be used for a sale. Stores it for later comparisons."""
        if len(answers) > 1:
            if not self._do_agree(answers):
                self._disagreed_at = self._clock()
                return False
            self._last_agreed, self._disagreed_at = answers[0], None
        elif answers and not self._is_near_the_last(answers[0]):
            return False
        if answers:
            self._last_believed = answers[0]
        return True

    def _do_agree(self, answers: Sequence[Rate]) -> bool:
        for one, other in pairwise(answers):
            if _distance_percent(one, other) > self._max_spread_percent:
                log.error(
                    "rate sources disagree RATE_MAX_SPREAD_PERCENT=%s currency=%s %s=%s %s=%s",
                    *(self._max_spread_percent, self._currency),
                    *(one.source, one.price, other.source, other.price),
                )
                return False
        return True

    def _is_near_the_last(self, rate: Rate) -> bool:
        """Whether a price without a second source can be trusted."""
        try:
            sold = self._last_sold()
        except LnpayError as error:
            log.warning("lone rate not compared source=%s error=%s", rate.source, type(error).__name__)
            return False
        known = [one for one in (self._last_believed, self._last_agreed, sold) if one is not None]
        if not known and self._is_within(self._disagreed_at, DISAGREEMENT_LASTS):
            log.error("lone rate rejected source=%s reason=the sources disagreed recently", rate.source)
            return False
        for last in known:
            limit = lone_limit_percent(rate, last, self._max_spread_percent)
            if _distance_percent(rate, last) > limit:
                log.error(
                    "lone rate rejected currency=%s %s=%s last=%s of=%s age_seconds=%d limit_percent=%d",
                    *(self._currency, rate.source, rate.price, last.price, last.source),
                    *(_seconds_between(rate, last), limit),
                )
                return False
        return True


def lone_limit_percent(rate: Rate, last: Rate, max_spread_percent: Decimal) -> Decimal:
    """How far a price that came alone may be from the last one believed: a fixed part, and a part for each hour since.

    A price of an hour ago allows 10 percent with the default spread, one of a day ago 125. After a week even ten times
    the last price is allowed: a shop that was closed for long must be able to sell again.
    """
    allowed = max(max_spread_percent, LONE_PERCENT)
    if not max_spread_percent and rate.source != last.source:
        allowed = OTHER_MARKET_PERCENT
    hours = Decimal(_seconds_between(rate, last)) / 3600
    return allowed + LONE_PERCENT_PER_HOUR * hours


def _seconds_between(one: Rate, other: Rate) -> int:
    # In both directions: after the clock was set back, a price from "later" is of no known age.
    return abs(int((one.as_of - other.as_of).total_seconds()))


def _distance_percent(one: Rate, other: Rate) -> Decimal:
    """How much higher the higher price is, in percent of the lower one."""
    low, high = sorted((one.price, other.price))
    return (high - low) * 100 / low


def _spread(answers: Sequence[Rate]) -> Decimal | None:
    prices = [answer.price for answer in answers]
    return (max(prices) - min(prices)) / min(prices) if len(prices) > 1 else None


def _outcome(answers: Sequence[Rate], *, is_trusted: bool) -> Refresh:
    if not is_trusted:
        return Refresh.DISAGREED
    return Refresh.FETCHED if answers else Refresh.FAILED
