"""The price that servers share, in the database. A sale never depends on it: without it each server asks for itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from lnpay.domain.errors import LnpayError
from lnpay.domain.model import Clock, Rate, SharedPrice
from lnpay.rates.shared import ShareUnavailable
from lnpay.repository import Repository
from lnpay.repository.repository import OUR_MISTAKES, Transaction

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatabaseShare:
    """The shared price of one currency; see `lnpay.rates.shared.PriceShare`."""

    repository: Repository
    currency: str
    clock: Clock

    def find(self) -> SharedPrice | None:
        """What was read last; None also if it cannot be read."""
        try:
            with self._translating(), self.repository.reading() as tx:
                return tx.shared_prices.find(self.currency)
        except ShareUnavailable:
            return None

    def claim(self) -> datetime | None:
        """Take the turn to ask the sources. Raises ShareUnavailable."""
        with self._translating(), self.repository.transaction(is_durable=False) as tx:
            return tx.shared_prices.claim(self.currency)

    def store(self, rate: Rate, spread: Decimal | None, read_at: datetime) -> None:
        """Share a price that is believed."""
        age = self.clock() - rate.as_of
        self._write(lambda tx: tx.shared_prices.store(rate, age, spread, read_at))

    def refuse(self, read_at: datetime) -> None:
        """Share that the sources disagree."""
        self._write(lambda tx: tx.shared_prices.refuse(self.currency, read_at))

    def release(self) -> None:
        """Give up the turn."""
        self._write(lambda tx: tx.shared_prices.release(self.currency))

    def _write(self, change: Callable[[Transaction], None]) -> None:
        try:
            # A power cut may lose it: then the sources are asked again.
            with self._translating(), self.repository.transaction(is_durable=False) as tx:
                change(tx)
        except ShareUnavailable:
            return

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (LnpayError, *OUR_MISTAKES) as error:
            log.warning("price not shared currency=%s error=%s", self.currency, type(error).__name__)
            raise ShareUnavailable from error
