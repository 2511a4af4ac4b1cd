"""What every part of the simulated world shares: clock, randomness, settings, faults and the provider's ledger.

Each part receives the core and the parts it acts on; the core knows none of them. world.py assembles everything.
"""

from __future__ import annotations

import random
import threading
import uuid
from datetime import datetime
from decimal import Decimal

from lnpay.sandbox.clock import VirtualClock
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.faults import FaultInjector
from lnpay.sandbox.rates.prices import MarketPrices
from lnpay.sandbox.schedule import Schedule
from lnpay.sandbox.strike.balances import Balances
from lnpay.sandbox.strike.envelope import ApiError
from lnpay.sandbox.strike.ledger import Ledger
from lnpay.sandbox.strike.limits import RateLimiter

INTEGRATION_ID = str(uuid.uuid5(uuid.NAMESPACE_URL, "https://sandbox.example/an-integration"))
"""The issuer of invoices: several accounts of one integration share it."""


class Core:
    """The shared state of one world. Callers hold `lock` while they change it.

    seed: same seed, same calls, same frozen clock: same ids, keys and chances. None: different every time.
    """

    def __init__(
        self,
        *,
        clock: VirtualClock | None = None,
        seed: int | None = None,
        config: SimulatorConfig | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.clock = clock or VirtualClock()
        self.seed = seed
        self.config = config or SimulatorConfig()
        self._moment: datetime | None = None
        self.reset()

    def reset(self) -> None:
        """Reset everything but the clock and the settings, and start from the seed again."""
        with self.lock:
            self.random = random.Random(self.seed)
            self.account_id = self.new_id()
            self.schedule = Schedule()
            self.faults = FaultInjector(random.Random(self.random.getrandbits(64)))
            self.limits = RateLimiter()
            self.rates = MarketPrices()
            self.ledger = Ledger()
            self.balances = Balances(self.config.start_balance_sats)

    def now(self) -> datetime:
        """The current time in whole milliseconds, so that every format of it is exact."""
        moment = self._moment or self.clock.now()
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def issuer_id(self) -> str:
        """Who issues invoices, as Strike calls it. Not the account, unless configured."""
        return self.account_id if self.config.issuer_of_invoices == "account" else INTEGRATION_ID

    def new_id(self) -> str:
        """The next UUID."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def new_ordered_id(self) -> str:
        """The next UUID of version 7, which begins with the moment: receive requests have such ids."""
        milliseconds = int(self.now().timestamp() * 1000) & (1 << 48) - 1
        number = milliseconds << 80 | 7 << 76 | self.random.getrandbits(12) << 64
        return str(uuid.UUID(int=number | 2 << 62 | self.random.getrandbits(62)))

    def new_secret(self) -> bytes:
        """The next 32 bytes."""
        return self.random.getrandbits(256).to_bytes(32, "big")

    def strike_rate(self, currency: str) -> Decimal:
        """Strike's price of one bitcoin; 1 for bitcoin. Raises ApiError EXCHANGE_RATE_NOT_AVAILABLE."""
        if currency == "BTC":
            return Decimal(1)
        price = self.rates.price("strike", currency)
        if price is None:
            raise ApiError("EXCHANGE_RATE_NOT_AVAILABLE")
        return price.quantize(Decimal("0.0001"))

    def tick(self) -> None:
        """Run every due action, each at its own scheduled time."""
        with self.lock:
            while due := self.schedule.pop_due(self.clock.now()):
                self._moment, action = due
                try:
                    action()
                finally:
                    self._moment = None

    def next_scheduled_at(self) -> datetime | None:
        """When the next scheduled change takes effect: a pending payment ends, a delayed request is processed."""
        return self.schedule.next_at()
