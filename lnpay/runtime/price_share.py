"""The price that servers share, in the database. A sale never depends on it: without it each server asks for itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from lnpay.domain.errors import LnpayError
from lnpay.domain.model import Clock, Rate
from lnpay.rates.shared import SharedPrice, ShareUnavailable
from lnpay.repository import Repository
from lnpay.repository.repository import OUR_MISTAKES, Transaction

log = logging.getLogger(__name__)

CLOCKS_AGREE = timedelta(minutes=1)
"""A price that another server dates earlier than this clock by more is dated by its age instead."""


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
                found = tx.shared_prices.find(self.currency)
                now = self.clock()
        except ShareUnavailable:
            return None
        if found is None:
            return None
        true_at = now - found.age
        rate = None if found.rate is None else replace(found.rate, as_of=_dated(found.rate.as_of, true_at))
        return SharedPrice(rate, true_at, now - found.read_age, found.is_usable, found.spread)

    def claim(self, patience: timedelta | None = None) -> datetime | None:
        """Take the turn to ask the sources. Raises ShareUnavailable."""
        with self._translating(), self.repository.transaction(is_durable=False) as tx:
            return tx.shared_prices.claim(self.currency, patience)

    def store(self, rate: Rate, spread: Decimal | None, read_at: datetime, age: timedelta) -> None:
        """Share a price that is believed."""
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


def _dated(as_of: datetime, true_at: datetime) -> datetime:
    """The time of a price by our clock. as_of: by the clock of the server that read it. true_at: by its age.

    Where both clocks agree the earlier one counts, so that the price of a sale is never taken for a newer one.
    """
    return min(as_of, true_at) if true_at - as_of <= CLOCKS_AGREE else true_at
