"""The price that servers share: the interface that `Rates` needs, so that this package does not know the database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from lnpay.domain.model import Rate

WAIT_SECONDS = 2.0
"""How long a server waits for another one that asks the sources."""

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class SharedPrice:
    """What one server has read for all. All times are by the clock of the server that looks at it.

    rate: the last one believed; None before the first. true_at: the time of the price. read_at: when the sources were
    asked. is_usable: False once they disagreed. spread: between two sources; None if one answered alone.
    """

    rate: Rate | None
    true_at: datetime
    read_at: datetime
    is_usable: bool
    spread: Decimal | None


class ShareUnavailable(Exception):
    """The shared price can be neither read nor claimed now."""


class PriceShare(Protocol):
    """The shared price of one currency. Without the database each server asks for itself: only `claim` raises."""

    def find(self) -> SharedPrice | None:
        """What was read last; None if nothing is known."""
        ...

    def claim(self, patience: timedelta | None = None) -> datetime | None:
        """Take the turn to ask the sources, and return the database's time. None: another server has it.

        patience: take over a turn that was taken so long ago. None: wait until it ends by itself.
        Raises ShareUnavailable if the database does not answer.
        """
        ...

    def store(self, rate: Rate, spread: Decimal | None, read_at: datetime, age: timedelta) -> None:
        """Share a price that is believed. read_at: what `claim` returned. age: how old it is now."""
        ...

    def refuse(self, read_at: datetime) -> None:
        """Share that the sources disagree."""
        ...

    def release(self) -> None:
        """Give up the turn: no source answered."""
        ...


class Alone:
    """Nothing is shared."""

    def find(self) -> SharedPrice | None:
        """Return nothing."""
        return None

    def claim(self, patience: timedelta | None = None) -> datetime | None:
        """Raise ShareUnavailable."""
        raise ShareUnavailable

    def store(self, rate: Rate, spread: Decimal | None, read_at: datetime, age: timedelta) -> None:
        """Do nothing."""

    def refuse(self, read_at: datetime) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Turn:
    """What a refresh has to do. is_done: nothing. Otherwise the sources are to be asked.

    claimed_at: the database's time of the claim; None without one, and then the result is not shared.
    """

    is_done: bool
    claimed_at: datetime | None = None


def take_turn(
    share: PriceShare,
    take: Callable[[SharedPrice], bool],
    has_price: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> Turn:
    """Take another server's reading if `take` accepts it, or the turn to ask the sources, within WAIT_SECONDS.

    If another server has the turn for longer, one that still `has_price` leaves it at that; one without takes it over.
    """
    if _is_taken(share, take):
        return Turn(is_done=True)
    try:
        claimed_at = share.claim()
        for _ in range(round(WAIT_SECONDS / POLL_SECONDS) if claimed_at is None else 0):
            sleep(POLL_SECONDS)
            if _is_taken(share, take):
                return Turn(is_done=True)
        if claimed_at is None and has_price():
            return Turn(is_done=True)
        claimed_at = claimed_at or share.claim(timedelta(seconds=WAIT_SECONDS))
    except ShareUnavailable:
        return Turn(is_done=False)
    # Another server may have finished its turn between the two.
    if claimed_at is not None and _is_taken(share, take):
        share.release()
        return Turn(is_done=True)
    return Turn(is_done=False, claimed_at=claimed_at)


def _is_taken(share: PriceShare, take: Callable[[SharedPrice], bool]) -> bool:
    found = share.find()
    return found is not None and take(found)
