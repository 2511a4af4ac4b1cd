"""Who can be asked for the price of one bitcoin: CoinGecko, Coinbase and Strike.

Prices are exact: they are read as text into Decimal and never pass through a float.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from lnpay.domain.errors import LnpayError
from lnpay.domain.model import Clock, Rate
from lnpay.http.outgoing import AnswerTooLarge, Timeout, call

TIMEOUT: Timeout = (2.0, 4.0)

MAX_ANSWER_BYTES = 1_000_000
"""Coinbase's list of all currencies is some 20,000."""

_NUMBER = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_UNIX_SECONDS = re.compile(r"[0-9]{1,11}", re.ASCII)


class RateSourceError(LnpayError):
    """A source gave no price that may be used. The message is ours, never the source's text."""

    code = "rate_unavailable"


class RateSource(Protocol):
    """A source of the price of a bitcoin."""

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
