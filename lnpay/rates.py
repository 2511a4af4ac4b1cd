"""The price of one bitcoin in the shop's currency, with its age and its source.

A price is money, so it is believed only when it is recent and, where a second source can be asked, when both agree.
Prices are exact: they are read as text into Decimal and never pass through a float.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from math import ceil
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from lnpay.errors import LnpayError, RateUnavailable
from lnpay.model import Clock, Rate
from lnpay.outgoing import AnswerTooLarge, Timeout, call

log = logging.getLogger(__name__)

TIMEOUT: Timeout = (2.0, 4.0)

MAX_ANSWER_BYTES = 1_000_000
"""Coinbase's list of all currencies is some 20,000."""

MAX_WAIT_SECONDS = 15.0
"""How long a request waits for the refresh that another one runs."""

_NUMBER = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_UNIX_SECONDS = re.compile(r"[0-9]{1,11}", re.ASCII)


class RateSourceError(LnpayError):
    """A source gave no price that may be used. The message is ours, never the source's text."""

    code = "rate_unavailable"


class RateSource(Protocol):
    """Somebody who knows what a bitcoin costs."""

    name: str

    def fetch(self, currency: str) -> Rate | None:
        """Ask for the price now. None: the source does not know `currency` (lower-case code).

        Raises RateSourceError when it did not answer, or not with a price.
        """
        ...


class CoinGecko:
    """CoinGecko's public API; the price comes with the time at which it was true.

    Source: https://docs.coingecko.com, "Coin Price by IDs".
    """

    name = "coingecko"

    def __init__(self, session: requests.Session, base_url: str, api_key: str, clock: Clock) -> None:
        self._session = session
        self._url = f"{base_url.rstrip('/')}/simple/price"
        self._headers = {_key_header(base_url): api_key} if api_key else {}
        self._clock = clock

    def fetch(self, currency: str) -> Rate | None:
        """Price of one bitcoin at CoinGecko; see RateSource."""
        params = {
            "ids": "bitcoin",
            "vs_currencies": currency,
            "include_last_updated_at": "true",
            "precision": "full",
        }
        answer = _get_json(self._session, self._url, params, self._headers)
        # It says "too many requests" with a 200 at times; then there is no bitcoin in the answer either.
        coin = _member(answer, "bitcoin")
        if currency not in coin:
            return None
        as_of = min(_read_time(coin.get("last_updated_at")), self._clock())
        return Rate(_read_price(coin[currency]), currency, self.name, as_of)


class Coinbase:
    """Coinbase's public exchange rates; the time is that of asking, as the answer has none.

    Source: https://docs.cdp.coinbase.com, "Exchange Rates".
    """

    name = "coinbase"

    def __init__(self, session: requests.Session, base_url: str, clock: Clock) -> None:
        self._session = session
        self._url = f"{base_url.rstrip('/')}/exchange-rates"
        self._clock = clock

    def fetch(self, currency: str) -> Rate | None:
        """Price of one bitcoin at Coinbase; see RateSource."""
        asked_at = self._clock()
        data = _member(_get_json(self._session, self._url, {"currency": "BTC"}, {}), "data")
        if data.get("currency") != "BTC":
            raise RateSourceError("answered for something else than bitcoin")
        rates = _member(data, "rates")
        if currency.upper() not in rates:
            return None
        return Rate(_read_price(rates[currency.upper()]), currency, self.name, asked_at)


class StrikeTicker:
    """Strike's own rates, for the few currencies it has; the time is that of asking, as the answer has none.

    ticker: gives Strike's rows of amount, sourceCurrency and targetCurrency, or raises an LnpayError.
    """

    name = "strike"

    def __init__(self, ticker: Callable[[], Iterable[Mapping[str, Any]]], clock: Clock) -> None:
        self._ticker = ticker
        self._clock = clock

    def fetch(self, currency: str) -> Rate | None:
        """Price of one bitcoin at Strike; see RateSource."""
        asked_at = self._clock()
        pair = ("BTC", currency.upper())
        for row in self._rows():
            if (row.get("sourceCurrency"), row.get("targetCurrency")) == pair:
                return Rate(_read_price(row.get("amount")), currency, self.name, asked_at)
        return None

    def _rows(self) -> list[Mapping[str, Any]]:
        try:
            rows = list(self._ticker())
        except LnpayError as error:
            raise RateSourceError(f"failed: {type(error).__name__}") from error
        if not all(isinstance(row, Mapping) for row in rows):
            raise RateSourceError("answered with another shape")
        return rows


class Refresh(StrEnum):
    """What a refresh of the price came to."""

    FETCHED = "fetched"
    FAILED = "failed"  # no source answered with a price
    DISAGREED = "disagreed"  # two did, and neither is believed


@dataclass(frozen=True)
class RateStanding:
    """What is known of the price, for whoever watches.

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
    differ by more than `max_spread_percent`, nothing is believed, not even the price that was stored. One that is
    alone in answering is believed. With 0 the comparison is off, and one answer is enough.
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
    ) -> None:
        self._sources = sources
        self._currency = currency
        self._clock = clock
        self._max_age = timedelta(seconds=max_age_seconds)
        self._max_spread_percent = max_spread_percent
        self._fresh = timedelta(seconds=fresh_seconds)
        self._retry = timedelta(seconds=retry_seconds)
        self._run_in_background = run_in_background
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

        Raises RateUnavailable, with the seconds after which asking again makes sense.
        """
        with self._changed:
            rate = self._usable()
            is_due = rate is not None and self._is_refresh_due() and self._claim()
        if rate is None:
            return self._wait_or_fetch()
        if is_due:
            self._refresh_in_background()
        return rate

    def warm_up(self) -> None:
        """Fetch the first price off the request path, so that the first customer does not wait for it."""
        with self._changed:
            is_due = self._stored is None and self._claim()
        if is_due:
            self._refresh_in_background()

    def standing(self) -> RateStanding:
        """What is known of the price now. Asks nobody."""
        with self._changed:
            counted = {one: self._refreshes[one] for one in Refresh}
            return RateStanding(self._stored, self._max_age, self._spread, counted)

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
        """Become the one who refreshes; False when there is one already. Whoever gets True must call _refresh."""
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
            # No more threads: the stored price still holds, and a later request tries again.
            log.warning("rate refresh could not be started")
            self._finish([], is_trusted=True)

    def _refresh(self) -> None:
        """Ask the sources and store what may be believed. For whoever has claimed it."""
        answers: list[Rate] = []
        is_trusted = True
        try:
            answers = self._ask_sources()
            is_trusted = self._do_agree(answers)
        finally:
            # Also after a bug in a source: nobody else could ever refresh otherwise.
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
            log.error("no rate source has a price currency=%s", self._currency)
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
            log.info("rate source does not know the currency source=%s currency=%s", source.name, self._currency)
        return rate

    def _do_agree(self, answers: Sequence[Rate]) -> bool:
        for one, other in pairwise(answers):
            spread = abs(one.price - other.price) * 100
            if spread > self._max_spread_percent * min(one.price, other.price):
                log.error(
                    "rate sources disagree by more than RATE_MAX_SPREAD_PERCENT=%s currency=%s %s=%s %s=%s",
                    *(self._max_spread_percent, self._currency),
                    *(one.source, one.price, other.source, other.price),
                )
                return False
        return True


def _spread(answers: Sequence[Rate]) -> Decimal | None:
    prices = [answer.price for answer in answers]
    return (max(prices) - min(prices)) / min(prices) if len(prices) > 1 else None


def _outcome(answers: Sequence[Rate], *, is_trusted: bool) -> Refresh:
    if not is_trusted:
        return Refresh.DISAGREED
    return Refresh.FETCHED if answers else Refresh.FAILED


def _key_header(base_url: str) -> str:
    """CoinGecko refuses a key in the header of the other kind of account."""
    is_pro = (urlsplit(base_url).hostname or "").startswith("pro-api.")
    return "x-cg-pro-api-key" if is_pro else "x-cg-demo-api-key"


def _get_json(
    session: requests.Session, url: str, params: Mapping[str, str], headers: Mapping[str, str]
) -> Mapping[str, Any]:
    """JSON object at `url`, its numbers as text. The one place where a failed call becomes a RateSourceError."""
    try:
        answer = call(session, "GET", url, params=params, headers=headers, timeout=TIMEOUT, max_bytes=MAX_ANSWER_BYTES)
    except AnswerTooLarge as error:
        raise RateSourceError("answered with too much") from error
    except (requests.RequestException, OSError) as error:
        raise RateSourceError(f"was not reached: {type(error).__name__}") from error
    if answer.status_code != requests.codes.ok:
        raise RateSourceError(f"answered HTTP {answer.status_code}")
    try:
        found = json.loads(answer.content, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise RateSourceError("answered with something else than JSON") from error
    if not isinstance(found, dict):
        raise RateSourceError("answered with another shape")
    return found


def _member(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    member = value.get(key)
    if not isinstance(member, dict):
        raise RateSourceError(f"answered without {key}")
    return member


def _read_price(value: object) -> Decimal:
    """Price in an answer, a number or a string there, text here. More than zero and of a believable size."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise RateSourceError("answered with a price that is no number")
    price = Decimal(value)
    if not Decimal("1e-8") <= price <= Decimal("1e18"):
        raise RateSourceError("answered with a price that no bitcoin has")
    return price


def _read_time(value: object) -> datetime:
    if not isinstance(value, str) or not _UNIX_SECONDS.fullmatch(value):
        raise RateSourceError("answered without the time of its price")
    return datetime.fromtimestamp(int(value), UTC)
