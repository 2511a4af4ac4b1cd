"""The price of one bitcoin in each currency that invoices are issued in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from lnpay.domain.model import Clock, Rate
from lnpay.domain.money import BITCOIN_UNITS, CURRENCIES
from lnpay.rates.prices import Rates, RateStatus

FIXED = "fixed"
"""The source of the price of bitcoin in bitcoin."""


class RatesByCurrency:
    """The prices of all currencies, each fetched and checked on first use. Thread-safe.

    There is at most one per known currency. Their total number of calls is bounded by the sources, which answer for
    every currency at once (see `lnpay.rates.sources`).
    own_currency: the installation's; its price is monitored. make: builds the prices of one currency.
    """

    def __init__(self, own_currency: str, make: Callable[[str], Rates], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._lock = threading.Lock()
        self._own = make(own_currency)
        self._by_currency = {own_currency: self._own}

    def current(self, currency: str) -> Rate:
        """Price of one bitcoin in `currency`. Raises RateUnavailable, as `Rates.current` does."""
        if currency in BITCOIN_UNITS:
            return Rate(BITCOIN_UNITS[currency], currency, FIXED, self._clock())
        return self._rates_of(currency).current()

    def current_within(self, currency: str, seconds: float, newer_than: datetime | None = None) -> Rate:
        """The same, waiting no longer than `seconds`; see `Rates.current_within`. Raises RateUnavailable."""
        if currency in BITCOIN_UNITS:
            return Rate(BITCOIN_UNITS[currency], currency, FIXED, self._clock())
        return self._rates_of(currency).current_within(seconds, newer_than)

    def _rates_of(self, currency: str) -> Rates:
        with self._lock:
            known = self._by_currency.get(currency)
            if known is None:
                if currency not in CURRENCIES:
                    raise ValueError(f"{currency} is not a currency that invoices are issued in")
                known = self._by_currency[currency] = self._make(currency)
            return known

    def warm_up(self) -> None:
        """Fetch the first price of the installation's currency; see `Rates.warm_up`."""
        self._own.warm_up()

    def status(self) -> RateStatus:
        """The status of the own currency's price."""
        return self._own.status()
