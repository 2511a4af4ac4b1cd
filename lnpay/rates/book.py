"""The price of one bitcoin in each currency that invoices are issued in."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lnpay.domain.model import Clock, Rate
from lnpay.domain.money import BITCOIN_UNITS, CURRENCIES
from lnpay.rates.prices import Rates, RateStatus

FIXED = "fixed"
"""The source of the price of bitcoin in bitcoin."""


class RateBook:
    """A price for each currency, each judged by itself and only when it is asked for. Safe to share between threads.

    There are never more of them than currencies are known. How many calls they make together is bounded by their
    sources, which serve every currency with one answer (see `lnpay.rates.sources`).
    own_currency: the installation's; monitors watch its price. make: builds the prices of one currency.
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

    def _rates_of(self, currency: str) -> Rates:
        with self._lock:
            known = self._by_currency.get(currency)
            if known is None:
                if currency not in CURRENCIES:
                    raise ValueError(f"{currency} is not a currency that invoices are issued in")
                known = self._by_currency[currency] = self._make(currency)
            return known

    def warm_up(self) -> None:
        """Fetch the first price of the own currency; see `Rates.warm_up`."""
        self._own.warm_up()

    def standing(self) -> RateStatus:
        """What is known of the own currency's price."""
        return self._own.standing()
