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
"""Passes run every few seconds or minutes. Work that none of them has moved for this long needs help."""


@dataclass(frozen=True)
class StalledWork:
    """Work that has not moved for STALLED_AFTER; None for a kind without such work.

    unpaid, expired: invoices long past their deadline, or past the end of their payment request, that are still
    watched because they could not be checked at Strike. refunds: owed, but neither sent nor waiting for a decision.
    deliveries: messages that the shop has not accepted.
    """

    unpaid: Waiting | None = None
    expired: Waiting | None = None
    refunds: Waiting | None = None
    deliveries: Waiting | None = None

    def counts(self) -> dict[str, int]:
        """The count of each kind."""
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
    """Find the work that has stalled."""
    before = now - STALLED_AFTER
    return StalledWork(
        unpaid=tx.figures.unread_unpaid(before),
        expired=tx.figures.unread_expired(before - LAPSE_MARGIN),
        refunds=tx.figures.stalled_refunds(before),
        deliveries=tx.figures.stalled_deliveries(before),
    )
