"""The price that servers share: what `Rates` needs of the database, which this package does not know."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from lnpay.domain.model import Rate, SharedPrice

WAIT_SECONDS = 2.0
"""How long a server waits for another one that asks the sources. Then it asks them itself."""

POLL_SECONDS = 0.1


class PriceShare(Protocol):
    """The shared price of one currency. No method raises: without the database each server asks for itself."""

    def find(self) -> SharedPrice | None:
        """What was read last; None if nothing is known."""
        ...

    def claim(self) -> datetime | None:
        """Take the turn to ask the sources, and return the database's time. None: another server has it.

        Raises ShareUnavailable if the database does not answer.
        """
        ...

    def store(self, rate: Rate, spread: Decimal | None, read_at: datetime) -> None:
        """Share a price that is believed. read_at: what `claim` returned."""
        ...

    def refuse(self, read_at: datetime) -> None:
        """Share that the sources disagree."""
        ...

    def release(self) -> None:
        """Give up the turn: no source answered."""
        ...


class ShareUnavailable(Exception):
    """The shared price can be neither read nor claimed now."""


class Alone:
    """Nothing is shared."""

    def find(self) -> SharedPrice | None:
        """Return nothing."""
        return None

    def claim(self) -> datetime | None:
        """Raise ShareUnavailable."""
        raise ShareUnavailable

    def store(self, rate: Rate, spread: Decimal | None, read_at: datetime) -> None:
        """Do nothing."""

    def refuse(self, read_at: datetime) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Turn:
    """What a refresh has to do. is_taken: another server's reading was taken. Otherwise the sources are to be asked.

    asked_at: the database's time of the claim; None without one, and then the result is not shared.
    """

    is_taken: bool
    asked_at: datetime | None = None


def take_turn(
    share: PriceShare, take: Callable[[SharedPrice], bool], sleep: Callable[[float], None] = time.sleep
) -> Turn:
    """Take another server's reading if `take` accepts it, or the turn to ask the sources, within WAIT_SECONDS."""
    for attempt in range(round(WAIT_SECONDS / POLL_SECONDS) + 1):
        if attempt:
            sleep(POLL_SECONDS)
        found = share.find()
        if found is not None and take(found):
            return Turn(is_taken=True)
        try:
            asked_at = share.claim()
        except ShareUnavailable:
            break
        if asked_at is not None:
            # Another server may have finished its turn between the two.
            found = share.find()
            if found is not None and take(found):
                share.release()
                return Turn(is_taken=True)
            return Turn(is_taken=False, asked_at=asked_at)
    return Turn(is_taken=False)
