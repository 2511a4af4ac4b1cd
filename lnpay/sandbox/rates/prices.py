"""Prices of one bitcoin: one table, and each source's deviation from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

BITCOIN_USD = Decimal("64250.50")

PER_USD: dict[str, str] = {
    "usd": "1", "aed": "3.6725", "ars": "1015.5", "aud": "1.5312", "bdt": "119.6", "bhd": "0.37702",
    "bmd": "1", "brl": "5.7865", "cad": "1.4012", "chf": "0.8862", "clp": "972.35", "cny": "7.2391",
    "czk": "24.017", "dkk": "7.0863", "eur": "0.95012", "gbp": "0.79104", "gel": "2.7325", "hkd": "7.7834",
    "huf": "388.46", "idr": "15894.5", "ils": "3.7402", "inr": "84.412", "jpy": "154.36", "krw": "1395.2",
    "kwd": "0.30751", "lkr": "291.35", "mmk": "2098.5", "mxn": "20.375", "myr": "4.4701", "ngn": "1668.4",
    "nok": "11.0725", "nzd": "1.7063", "php": "58.742", "pkr": "277.85", "pln": "4.1102", "rub": "99.85",
    "sar": "3.7553", "sek": "10.9641", "sgd": "1.3428", "thb": "34.842", "try": "34.435", "twd": "32.471",
    "uah": "41.252", "vef": "0.10013", "vnd": "25395", "zar": "18.214",
    "usdt": "1", "xdr": "0.7601", "xag": "0.0331", "xau": "0.000389",
    "eth": "0.000322", "ltc": "0.0113", "bch": "0.00221", "bnb": "0.00163", "eos": "1.521", "xrp": "0.892",
    "xlm": "4.914", "link": "0.0691", "dot": "0.1732", "yfi": "0.000152", "sol": "0.00421",
}  # fmt: skip
"""Units of each currency for one US dollar: of no particular day, only of the right magnitude."""

PER_BITCOIN = {"btc": Decimal(1), "bits": Decimal(1_000_000), "sats": Decimal(100_000_000)}

SOURCES = ("coingecko", "coinbase", "strike")


@dataclass(slots=True)
class MarketPrices:
    """The price of a bitcoin at each source."""

    bitcoin_usd: Decimal = BITCOIN_USD
    prices: dict[str, dict[str, Decimal | None]] = field(default_factory=lambda: {name: {} for name in SOURCES})
    """Source to currency to its own price; None: this source does not know the currency."""
    factors: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(SOURCES, Decimal(1)))
    ages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SOURCES, 20.0))
    """Source to the age of its price in seconds."""

    def price(self, source: str, currency: str) -> Decimal | None:
        """Units of a currency (any case) for one bitcoin; None when the source does not know it."""
        currency = currency.lower()
        if currency in self.prices[source]:
            return self.prices[source][currency]
        if currency in PER_BITCOIN:
            return PER_BITCOIN[currency]
        if currency not in PER_USD:
            return None
        return self.bitcoin_usd * Decimal(PER_USD[currency]) * self.factors[source]

    def set_price(self, currency: str, price: Decimal | str | None, source: str | None = None) -> None:
        """Fix a price (None: unknown there) for one source or for all of them."""
        value = None if price is None else Decimal(price)
        for name in SOURCES if source is None else (source,):
            self.prices[name][currency.lower()] = value

    def reset_price(self, currency: str) -> None:
        """Use the table's price again."""
        for prices in self.prices.values():
            prices.pop(currency.lower(), None)
