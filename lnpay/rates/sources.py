"""The sources of the price of one bitcoin: CoinGecko, Coinbase and Strike.

Prices are exact: they are read as text into Decimal and never pass through a float.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from lnpay.domain.errors import LnpayError
from lnpay.domain.model import Clock, Rate
from lnpay.domain.money import CURRENCIES
from lnpay.http.outgoing import AnswerTooLarge, Timeout, call

TIMEOUT: Timeout = (2.0, 4.0)

SHARE_SECONDS = 20.0
"""How long one answer serves all currencies."""

CLOCKS_DIFFER = timedelta(minutes=1)
"""How far this machine's clock may be behind a source's. The age of a price from later cannot be known."""

MAX_ANSWER_BYTES = 1_000_000
"""Limit of an answer. Coinbase's list of all currencies is some 20,000 bytes."""

_NUMBER = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_UNIX_SECONDS = re.compile(r"[0-9]{1,11}", re.ASCII)


class RateSourceError(LnpayError):
    """A source gave no usable price. The message is ours, never the source's text."""

    code = "rate_unavailable"


class RateSource(Protocol):
    """A source of the price of a bitcoin."""

    name: str

    def fetch(self, currency: str) -> Rate | None:
        """Fetch the current price. None: the source does not know `currency` (lower-case code).

        Raises RateSourceError if it does not answer with a price.
        """
        ...


Prices = Callable[[str], Rate | None]
"""One answer of a source: returns the price in a currency as `RateSource.fetch` does, without another call."""


class AllPrices(RateSource, Protocol):
    """A source that answers for many currencies at once."""

    def ask(self, currencies: Collection[str]) -> Prices:
        """Fetch the current prices. Raises RateSourceError without an answer."""
        ...


class SharedSource:
    """A source that many currencies share: one answer serves all of them for `share_seconds`.

    Any number of currencies and requests costs as many calls as one: an answer, or a failure, is used once for each
    currency, so that a repeat for the same one asks again.
    """

    def __init__(self, source: AllPrices, clock: Clock, share_seconds: float = SHARE_SECONDS) -> None:
        self.name = source.name
        self._source = source
        self._clock = clock
        self._share = timedelta(seconds=share_seconds)
        self._lock = threading.Lock()
        self._answer: Prices | RateSourceError | None = None
        self._asked_at: datetime | None = None
        self._served: set[str] = set()

    def fetch(self, currency: str) -> Rate | None:
        """Price of one bitcoin; see RateSource."""
        with self._lock:
            answer = self._answer
            if answer is None or currency in self._served or not self._is_recent():
                # Even after a bug in a source, the next request asks again.
                self._answer = None
                answer = self._ask(currency)
                self._answer, self._asked_at, self._served = answer, self._clock(), set()
            self._served.add(currency)
        if isinstance(answer, RateSourceError):
            raise RateSourceError(answer.message) from answer
        return answer(currency)

    def _is_recent(self) -> bool:
        return self._asked_at is not None and timedelta(0) <= self._clock() - self._asked_at < self._share

    def _ask(self, currency: str) -> Prices | RateSourceError:
        try:
            return self._source.ask(CURRENCIES | {currency})
        except RateSourceError as error:
            return error


class CoinGecko:
    """CoinGecko's public API, whose price carries its own time.

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
        return self.ask([currency])(currency)

    def ask(self, currencies: Collection[str]) -> Prices:
        """Prices of one bitcoin in all of them, in one call; see AllPrices."""
        params = {
            "ids": "bitcoin",
            "vs_currencies": ",".join(sorted(currencies)),
            "include_last_updated_at": "true",
            "precision": "full",
        }
        answer = _get_json(self._session, self._url, params, self._headers)
        # It sometimes answers "too many requests" with a 200; then bitcoin is missing from the answer too.
        coin = _member(answer, "bitcoin")
        now = self._clock()

        def price(currency: str) -> Rate | None:
            if currency not in coin:
                return None
            as_of = _read_time(coin.get("last_updated_at"))
            if as_of - now > CLOCKS_DIFFER:
                raise RateSourceError("answered with a price of a later time than this machine's clock")
            return Rate(_read_price(coin[currency]), currency, self.name, min(as_of, now))

        return price


class Coinbase:
    """Coinbase's public exchange rates; dated by the time of the request, because the answer has no time.

    Source: https://docs.cdp.coinbase.com, "Exchange Rates".
    """

    name = "coinbase"

    def __init__(self, session: requests.Session, base_url: str, clock: Clock) -> None:
        self._session = session
        self._url = f"{base_url.rstrip('/')}/exchange-rates"
        self._clock = clock

    def fetch(self, currency: str) -> Rate | None:
        """Price of one bitcoin at Coinbase; see RateSource."""
        return self.ask([currency])(currency)

    def ask(self, currencies: Collection[str]) -> Prices:
        """Prices of one bitcoin in every currency; see AllPrices."""
        asked_at = self._clock()
        data = _member(_get_json(self._session, self._url, {"currency": "BTC"}, {}), "data")
        if data.get("currency") != "BTC":
            raise RateSourceError("answered for something other than bitcoin")
        rates = _member(data, "rates")

        def price(currency: str) -> Rate | None:
            if currency.upper() not in rates:
                return None
            return Rate(_read_price(rates[currency.upper()]), currency, self.name, asked_at)

        return price


class StrikeTicker:
    """Strike's own rates, for its few currencies, dated by the request, because the answer has no time.

    ticker: gives Strike's rows of amount, sourceCurrency and targetCurrency, or raises an LnpayError.
    """

    name = "strike"

    def __init__(self, ticker: Callable[[], Iterable[Mapping[str, Any]]], clock: Clock) -> None:
        self._ticker = ticker
        self._clock = clock

    def fetch(self, currency: str) -> Rate | None:
        """Price of one bitcoin at Strike; see RateSource."""
        return self.ask([currency])(currency)

    def ask(self, currencies: Collection[str]) -> Prices:
        """Prices of one bitcoin in every currency; see AllPrices."""
        asked_at = self._clock()
        rows = self._rows()

        def price(currency: str) -> Rate | None:
            pair = ("BTC", currency.upper())
            for row in rows:
                if (row.get("sourceCurrency"), row.get("targetCurrency")) == pair:
                    return Rate(_read_price(row.get("amount")), currency, self.name, asked_at)
            return None

        return price

    def _rows(self) -> list[Mapping[str, Any]]:
        try:
            rows = list(self._ticker())
        except LnpayError as error:
            raise RateSourceError(f"failed: {type(error).__name__}") from error
        if not all(isinstance(row, Mapping) for row in rows):
            raise RateSourceError("answered with another shape")
        return rows


def _key_header(base_url: str) -> str:
    """The key header for the account type: CoinGecko refuses a key in the other type's header."""
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
        raise RateSourceError("answered with something other than JSON") from error
    if not isinstance(found, dict):
        raise RateSourceError("answered with another shape")
    return found


def _member(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    member = value.get(key)
    if not isinstance(member, dict):
        raise RateSourceError(f"answered without {key}")
    return member


def _read_price(value: object) -> Decimal:
    """Read a price, a number or a string in the answer. It must be positive and plausible."""
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
