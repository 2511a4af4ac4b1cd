"""The price of bitcoin that one server has read for all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from lnpay.domain.model import Rate, SharedPrice, utc_now
from lnpay.repository.limits import Limits
from lnpay.repository.sql import checked, read_one, require, upsert
from lnpay.repository.tables import shared_prices as t

CLAIM_LENGTH = timedelta(seconds=2)
"""For so long one server alone asks the sources. One that was killed delays the others by no more."""

CLOCKS_DIFFER = timedelta(minutes=1)
"""On SQLite, by how much the machine's two clocks may differ about the age of a price."""

PRICES = (Decimal("1e-8"), Decimal("1e18"))
"""What a bitcoin may cost: the same bounds as for an answer of a source."""

_SPREAD_DIGITS = Decimal("1e-9")


class SharedPrices:
    """Queries about shared prices inside one transaction. Ages are by the database's time (`Limits.now`)."""

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits

    def find(self, currency: str) -> SharedPrice | None:
        """What was read last. None: nothing yet, or its age is unknown. Raises UnreadableRow."""
        c = t.c
        columns = (c.currency, c.price, c.source, c.as_of, c.spread, c.is_usable, c.true_at, c.read_at)
        statement = select(*columns, c.machine_read_at).where(c.currency == currency, c.read_at.is_not(None))
        return read_one(self._connection, t, statement, self._to_price)

    def _to_price(self, row: Row[Any]) -> SharedPrice | None:
        now = self._limits.now()
        read_age = now - row.read_at
        if read_age < timedelta() or not self._is_of_this_start(row.machine_read_at, read_age):
            return None
        if row.price is None:
            require(not row.is_usable)
            return checked(SharedPrice(None, row.is_usable, None, read_age, read_age))
        require(PRICES[0] <= row.price <= PRICES[1], row.spread is None or row.spread >= 0, row.true_at <= now)
        rate = checked(Rate(row.price, row.currency, row.source, row.as_of))
        return checked(SharedPrice(rate, row.is_usable, row.spread, now - row.true_at, read_age))

    def _is_of_this_start(self, machine_read_at: datetime, read_age: timedelta) -> bool:
        """Whether the age is true: a restart of the machine may set the database's time back."""
        if not self._limits.is_restarted_with_machine():
            return True
        return abs(utc_now() - machine_read_at - read_age) <= CLOCKS_DIFFER

    def claim(self, currency: str) -> datetime | None:
        """Take the turn to ask the sources. Returns the database's time; None if another server has the turn."""
        now = self._limits.now()
        until, change = t.c.claimed_until, {"claimed_until": now + CLAIM_LENGTH}
        # One that ends later than any can was made before a restart of the machine.
        is_free = or_(until.is_(None), until <= now, until > now + CLAIM_LENGTH)
        new = {**change, "is_usable": False}
        statement = upsert(self._connection, t, {"currency": currency}, new, change, where=is_free)
        return None if self._connection.execute(statement.returning(t.c.currency)).scalar() is None else now

    def store(self, rate: Rate, age: timedelta, spread: Decimal | None, read_at: datetime) -> None:
        """Share a price that is believed.

        age: of the price. read_at: before the sources were asked, in the database's time. A later reading is kept.
        """
        true_at = self._limits.now() - max(timedelta(), age)
        spread = None if spread is None else spread.quantize(_SPREAD_DIGITS)
        new = {"price": rate.price, "source": rate.source, "as_of": rate.as_of, "spread": spread, "true_at": true_at}
        self._read(rate.currency, read_at, {**new, "is_usable": True})

    def refuse(self, currency: str, read_at: datetime) -> None:
        """Share that the sources disagree: no server may use an earlier price. A later reading is kept."""
        self._read(currency, read_at, {"is_usable": False})

    def release(self, currency: str) -> None:
        """Give up the turn: no source answered."""
        self._connection.execute(t.update().where(t.c.currency == currency).values(claimed_until=None))

    def _read(self, currency: str, read_at: datetime, found: Mapping[str, Any]) -> None:
        now = self._limits.now()
        change = {**found, "read_at": read_at, "machine_read_at": utc_now() - (now - read_at), "claimed_until": None}
        # A reading from later was made before a restart of the machine.
        is_older = or_(t.c.read_at.is_(None), t.c.read_at <= read_at, t.c.read_at > now)
        self._connection.execute(upsert(self._connection, t, {"currency": currency}, change, change, where=is_older))
