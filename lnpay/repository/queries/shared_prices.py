"""The price of bitcoin, which one server fetches for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, bindparam, or_, select, text

from lnpay.domain.model import Rate, utc_now
from lnpay.repository.limits import BOOT, Limits
from lnpay.repository.sql import checked, read_one, require, upsert
from lnpay.repository.tables import shared_prices as t

CLAIM_LENGTH = timedelta(seconds=20)
"""How long one server has the exclusive turn to ask the sources: longer than the timeouts of all three."""

LOCK_TIMEOUT_MS = 2_000
"""On PostgreSQL, how long to wait for a row that another process has locked and may never release."""

CLOCKS_DIFFER = timedelta(minutes=1)
"""On SQLite, by how much the machine's two clocks may differ about the age of a price."""

PRICES = (Decimal("1e-8"), Decimal("1e18"))
"""What a bitcoin may cost: the same bounds as for an answer of a source."""

_SPREAD_DIGITS = Decimal("1e-9")

_c = t.c

_READ = select(
    _c.currency, _c.price, _c.source, _c.as_of, _c.spread, _c.is_usable, _c.true_at, _c.read_at, _c.machine_read_at
).where(_c.currency == bindparam("sought"), _c.read_at.is_not(None))


@dataclass(frozen=True)
class PriceReading:
    """A price shared by all servers. rate: the last accepted one, timed by its server's clock; None before the first.

    is_usable: False once the sources disagreed. spread: between two sources; None if one answered alone. age: of the
    price, and read_age: since the sources were asked, both by the database's time.
    """

    rate: Rate | None
    is_usable: bool
    spread: Decimal | None
    age: timedelta
    read_age: timedelta


class SharedPrices:
    """Queries about shared prices inside one transaction. Ages are by the database's time (`Limits.now`)."""

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits

    def find(self, currency: str) -> PriceReading | None:
        """What was read last. None: nothing yet, or its age is unknown. Raises UnreadableRow."""
        return read_one(self._connection, t, _READ, self._to_price, {"sought": currency})

    def _to_price(self, row: Row[Any]) -> PriceReading | None:
        now = self._limits.now()
        read_age = now - row.read_at
        if read_age < timedelta() or not self._is_of_this_start(row.machine_read_at, read_age):
            return None
        if row.price is None:
            require(not row.is_usable)
            return checked(PriceReading(None, row.is_usable, None, read_age, read_age))
        require(PRICES[0] <= row.price <= PRICES[1], row.spread is None or row.spread >= 0)
        require(row.true_at <= row.read_at)
        rate = checked(Rate(row.price, row.currency, row.source, row.as_of))
        return checked(PriceReading(rate, row.is_usable, row.spread, now - row.true_at, read_age))

    def _is_of_this_start(self, machine_read_at: datetime, read_age: timedelta) -> bool:
        """Whether the age is true: a restart of the machine may set the database's time back."""
        if not self._limits.is_restarted_with_machine():
            return True
        return abs(utc_now() - machine_read_at - read_age) <= CLOCKS_DIFFER

    def claim(self, currency: str, patience: timedelta | None = None) -> datetime | None:
        """Take the turn to ask the sources. Returns the database's time; None if another server has the turn.

        patience: take over a turn that is at least this old, instead of waiting for its end.
        """
        self._wait_briefly()
        now = self._limits.now()
        until, change = t.c.claimed_until, {"claimed_until": now + CLAIM_LENGTH}
        over = now if patience is None else now + CLAIM_LENGTH - patience
        # A claim that ends implausibly late was made before the machine restarted.
        is_free = or_(until.is_(None), until <= over, until > now + CLAIM_LENGTH)
        new = {**change, "is_usable": False}
        statement = upsert(self._connection, t, {"currency": currency}, new, change, where=is_free)
        return None if self._connection.execute(statement.returning(t.c.currency)).scalar() is None else now

    def store(self, rate: Rate, age: timedelta, spread: Decimal | None, read_at: datetime) -> None:
        """Share an accepted price.

        read_at: before the sources were asked, in the database's time. age: of the price, not negative. Counted from
        then, so it looks older by the time that asking took. A later reading is kept. On SQLite a price of before the
        machine's start has no time and is not shared.
        """
        if read_at - age < BOOT:
            self.release(rate.currency)
            return
        spread = None if spread is None else spread.quantize(_SPREAD_DIGITS)
        new = {"price": rate.price, "source": rate.source, "as_of": rate.as_of, "spread": spread}
        self._read(rate.currency, read_at, {**new, "true_at": read_at - age, "is_usable": True})

    def refuse(self, currency: str, read_at: datetime) -> None:
        """Share that the sources disagree: no server may use an earlier price. A later reading is kept."""
        self._read(currency, read_at, {"is_usable": False})

    def release(self, currency: str) -> None:
        """Give up the turn: no source answered."""
        self._wait_briefly()
        self._connection.execute(t.update().where(t.c.currency == currency).values(claimed_until=None))

    def _read(self, currency: str, read_at: datetime, found: Mapping[str, Any]) -> None:
        self._wait_briefly()
        now = self._limits.now()
        change = {**found, "read_at": read_at, "machine_read_at": utc_now() - (now - read_at), "claimed_until": None}
        # A reading from the future was made before the machine restarted.
        is_older = or_(t.c.read_at.is_(None), t.c.read_at <= read_at, t.c.read_at > now)
        self._connection.execute(upsert(self._connection, t, {"currency": currency}, change, change, where=is_older))

    def _wait_briefly(self) -> None:
        """Do not wait long for a process that stalled while it held the row: each server can ask the sources itself."""
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
