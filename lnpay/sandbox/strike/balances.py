"""The account's balances, by currency, in its smallest units."""

from __future__ import annotations

from collections import Counter

from lnpay.sandbox.strike.envelope import ApiError
from lnpay.sandbox.strike.models import Money


class Balances:
    """The available and the reserved amounts."""

    def __init__(self, sats: int) -> None:
        self.available: Counter[str] = Counter({"BTC": sats})
        self.outgoing: Counter[str] = Counter()

    def text(self, currency: str) -> str:
        """The available amount of a currency, with thousands separators."""
        whole, _, rest = Money(self.available[currency], currency).text().partition(".")
        return f"{int(whole):,}.{rest}"

    def credit(self, amount: Money) -> None:
        """Add received money."""
        self.available[amount.currency] += amount.units

    def require(self, amount: Money) -> None:
        """Raise ApiError BALANCE_TOO_LOW unless that much can be spent."""
        if self.available[amount.currency] < amount.units:
            raise ApiError("BALANCE_TOO_LOW")

    def reserve(self, amount: Money) -> None:
        """Reserve money for a payment."""
        self.require(amount)
        self.available[amount.currency] -= amount.units
        self.outgoing[amount.currency] += amount.units

    def release(self, amount: Money, is_spent: bool) -> None:
        """End a reservation: the money was sent, or is available again."""
        self.outgoing[amount.currency] -= amount.units
        if not is_spent:
            self.available[amount.currency] += amount.units
