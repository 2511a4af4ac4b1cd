"""Use case: detect work that has not moved for STALLED_AFTER, for any reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from lnpay.domain.states import LAPSE_MARGIN
from lnpay.domain.text import counted, utc_minute
from lnpay.repository import Transaction
from lnpay.repository.queries.figures import Waiting

STALLED_AFTER = timedelta(hours=1)
"""Passes come every few seconds or minutes. What none of them has moved for so long will hardly move by itself."""


@dataclass(frozen=True)
class StalledWork:
    """What has not moved for STALLED_AFTER; None where everything moves.

    unpaid, expired: invoices long after their time, and long after their payment request died, which are still watched
    because Strike could not be asked about them. refunds: owed, and neither sent nor waiting for a person.
    deliveries: messages that the shop has not taken.
    """

    unpaid: Waiting | None = None
    expired: Waiting | None = None
    refunds: Waiting | None = None
    deliveries: Waiting | None = None

    def counts(self) -> dict[str, int]:
        """How much of each kind."""
        return {name: one.count if one else 0 for name, one in vars(self).items()}

    def in_words(self) -> Iterator[str]:
        """A sentence for each kind."""
        if self.unpaid:
            yield f"{_many(self.unpaid, 'unpaid invoice')} could not be checked at Strike, {_since(self.unpaid)}"
        if self.expired:
            yield f"{_many(self.expired, 'expired invoice')} could not be checked at Strike, {_since(self.expired)}"
        if self.refunds:
            noun, since = _many(self.refunds, "refund"), _since(self.refunds)
            yield f"{noun} could not be sent, {since}: python main.py refunds list"
        if self.deliveries:
            noun, since = _many(self.deliveries, "message"), _since(self.deliveries)
            yield f"{noun} to the shop could not be delivered, {since}: python main.py deliveries list"


def _many(waiting: Waiting, noun: str) -> str:
    return counted(waiting.count, noun)


def _since(waiting: Waiting) -> str:
    return f"the oldest since {utc_minute(waiting.since)}"


def find_stalled(tx: Transaction, now: datetime) -> StalledWork:
    """What stands still."""
    before = now - STALLED_AFTER
    return StalledWork(
        unpaid=tx.figures.unread_unpaid(before),
        expired=tx.figures.unread_expired(before - LAPSE_MARGIN),
        refunds=tx.figures.stalled_refunds(before),
        deliveries=tx.figures.stalled_deliveries(before),
    )
