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
from functools import partial
from math import ceil

from lnpay.domain.errors import RateUnavailable
from lnpay.domain.model import Clock, Rate
from lnpay.rates.guard import PriceGuard, spread_of
from lnpay.rates.shared import Alone, PriceShare, SharedPrice, Turn, take_turn
from lnpay.rates.sources import RateSource, RateSourceError

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 15.0
"""How long a request waits for a refresh by another request."""


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

    share: what servers share. An older price is compared with it first: what another server has read less than
    `fresh_seconds` ago is taken as if it had been fetched here, and so is a disagreement of the sources.
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
        share: PriceShare | None = None,
    ) -> None:
        self._sources = sources
        self._currency = currency
        self._clock = clock
        self._max_age = timedelta(seconds=max_age_seconds)
        self._wanted_answers = 2 if max_spread_percent else 1
        self._fresh = timedelta(seconds=fresh_seconds)
        self._retry = timedelta(seconds=retry_seconds)
        self._run_in_background = run_in_background
        self._share = share or Alone()
        # Only the thread that refreshes uses these.
        self._guard = PriceGuard(currency, clock, max_spread_percent, last_sold)
        self._asked_at: datetime | None = None  # before the latest reading, ours or another server's
        # Guards what follows; never held while a source is asked.
        self._changed = threading.Condition()
        self._stored: Rate | None = None
        self._true_at: datetime | None = None  # of `_stored`, by our clock
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
        if is_due:
            is_taken = self._take_shared()
            with self._changed:
                rate = self._usable()
            if not is_taken:
                self._refresh_in_background()
        return self._wait_or_fetch() if rate is None else rate

    def current_within(self, seconds: float, newer_than: datetime | None = None) -> Rate:
        """The same as `current`, but fetched less than `fresh_seconds` ago, if that succeeds within `seconds`.

        newer_than: no price of that time or earlier is taken from another server; the sources are asked instead.
        A fetch that takes longer goes on, for the next caller. Raises RateUnavailable.
        """
        with self._changed:
            is_due = self._is_refresh_due() and self._claim()
        if is_due:
            self._refresh_in_background(newer_than)
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
        if self._true_at is None or abs(self._clock() - self._true_at) > self._max_age:
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

    def _refresh_in_background(self, newer_than: datetime | None = None) -> None:
        try:
            self._run_in_background(partial(self._refresh, newer_than))
        except RuntimeError:
            # Out of threads: the stored price is still valid, and a later request tries again.
            log.warning("rate refresh not started reason=no thread")
            self._finish([], is_trusted=True)

    def _refresh(self, newer_than: datetime | None = None) -> None:
        """Take what another server has read, or ask the sources. Only for the holder of the claim.

        The result is stored, and shared, if it can be trusted.
        """
        answers: list[Rate] = []
        is_trusted = True
        turn = Turn(is_done=False)
        try:
            turn = take_turn(self._share, lambda found: self._take(found, newer_than), self._has_price)
            if not turn.is_done:
                asked_at = self._clock()
                answers = self._ask_sources()
                self._asked_at = asked_at if answers else self._asked_at
                is_trusted = self._guard.believes(answers)
        finally:
            # Also after a bug in a source: the claim must be released, or no thread could refresh again.
            if turn.is_done:
                self._end_refresh()
            else:
                self._finish(answers, is_trusted=is_trusted)
        if turn.claimed_at is not None:
            self._tell_others(answers, turn.claimed_at, is_trusted=is_trusted)

    def _has_price(self) -> bool:
        with self._changed:
            return self._usable() is not None

    def _tell_others(self, answers: Sequence[Rate], claimed_at: datetime, *, is_trusted: bool) -> None:
        if not is_trusted:
            self._share.refuse(claimed_at)
        elif answers:
            # Now, not when they were asked: an answer of Strike may have corrected our clock in between.
            age = max(timedelta(), self._clock() - answers[0].as_of)
            self._share.store(answers[0], spread_of(answers), claimed_at, age)
        else:
            self._share.release()

    def _take_shared(self) -> bool:
        """Look at what servers share. True: the sources need not be asked now, and the claim is released."""
        is_done = True
        try:
            found = self._share.find()
            is_done = found is not None and self._take(found)
        finally:
            if is_done:
                self._end_refresh()
        return is_done

    def _end_refresh(self) -> None:
        with self._changed:
            self._is_refreshing = False
            self._changed.notify_all()

    def _take(self, found: SharedPrice, newer_than: datetime | None = None) -> bool:
        """Use another server's reading if it is later than ours. True if the sources need not be asked now."""
        self._guard.note_shared(found)
        # After the clock was set back, a reading of ours from "later" is of no known age.
        if self._asked_at is not None and found.read_at <= self._asked_at <= self._clock():
            return False
        rate = found.rate
        if rate is None or not found.is_usable:
            return self._take_disagreement(found.read_at)
        is_newer = newer_than is None or rate.as_of > newer_than
        is_old = self._clock() - found.true_at > self._max_age
        if is_old or not is_newer or not self._guard.believes_shared(found):
            return False
        self._asked_at = found.read_at
        with self._changed:
            self._stored, self._true_at, self._spread = rate, found.true_at, found.spread
            self._fetched_at = found.read_at
            is_fresh = self._is_within(found.read_at, self._fresh)
            self._failed_at = None if is_fresh else self._failed_at
        return is_fresh

    def _take_disagreement(self, read_at: datetime) -> bool:
        self._asked_at = read_at
        with self._changed:
            self._stored = self._true_at = None
            is_recent = self._is_within(read_at, self._retry)
            self._failed_at = read_at if is_recent else self._failed_at
        return is_recent

    def _finish(self, answers: Sequence[Rate], *, is_trusted: bool) -> None:
        """Let the next one refresh, with a new price, with the old one, or (not trusted) with none."""
        with self._changed:
            now = self._clock()
            if answers and is_trusted:
                self._stored, self._fetched_at, self._failed_at = answers[0], now, None
                self._true_at = answers[0].as_of
            else:
                if not is_trusted:
                    self._stored = self._true_at = None
                self._failed_at = now
            self._spread = spread_of(answers)
            self._refreshes[_outcome(answers, is_trusted=is_trusted)] += 1
            self._is_refreshing = False
            self._changed.notify_all()

    def _ask_sources(self) -> list[Rate]:
        answers: list[Rate] = []
        for source in self._sources:
            rate = self._ask(source)
            if rate is not None:
                answers.append(rate)
            if len(answers) == self._wanted_answers:
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


def _outcome(answers: Sequence[Rate], *, is_trusted: bool) -> Refresh:
    if not is_trusted:
        return Refresh.DISAGREED
    return Refresh.FETCHED if answers else Refresh.FAILED
