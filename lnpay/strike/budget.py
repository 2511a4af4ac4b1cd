"""Count the calls to Strike, together for every process that shares the database.

Past 1,000 "other" calls in ten minutes Strike refuses everything for an hour, and past 250 payouts in a minute for a
minute, so we stop before. Creating invoices and quotes is never throttled here, because a customer is waiting; for
them Strike's own 429 is respected, by every process, until it ends.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from lnpay.domain.errors import StrikeUnavailable
from lnpay.repository import Repository, Transaction
from lnpay.repository.limits import LONGEST_BLOCK
from lnpay.strike.buckets import Bucket

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limit:
    """At most `calls` in any `window`. Counted in slots of `slot_seconds`; a slot counts while it overlaps it."""

    calls: int
    window: timedelta
    slot_seconds: int


LIMITS: Mapping[Bucket, Limit] = {
    Bucket.OTHER: Limit(1_000, timedelta(minutes=10), 60),
    Bucket.PAYMENT_QUOTE: Limit(250, timedelta(minutes=1), 5),
    Bucket.PAYMENT_EXECUTE: Limit(250, timedelta(minutes=1), 5),
}
"""Strike's production limits for the buckets that we count. Source: Strike, "Rate limits"."""

DEFAULT_SHARE = 0.95
"""The largest fraction of a limit to use: Strike may count calls that we do not."""

BLOCK_WITHOUT_WORD_SECONDS = {Bucket.OTHER: 3_600}
"""How long Strike blocks after a 429 without Retry-After: an hour for OTHER, a minute for the rest."""


class Budget:
    """Counts calls and stores blocks in the database, by the time of `Limits.now`, not of this machine.

    share: the fraction of the "other" calls at which this one stops. Receive requests stop first, then sweeps, so that
    payments are still detected and refunds still sent.
    """

    def __init__(self, repository: Repository, *, share: float = DEFAULT_SHARE) -> None:
        self._repository = repository
        self._share = share

    def remaining(self) -> int:
        """How many "other" calls are left in this window."""
        limit = LIMITS[Bucket.OTHER]
        with self._repository.reading() as tx:
            used = tx.limits.calls_within(Bucket.OTHER, limit.window, limit.slot_seconds)
        return max(0, self._most(Bucket.OTHER, limit) - used)

    def take(self, bucket: Bucket) -> None:
        """Count one call before it is made. Raises StrikeUnavailable if Strike would refuse it, or block later ones."""
        limit = LIMITS.get(bucket)
        if limit is None:
            with self._repository.reading() as tx:
                _refuse_while_blocked(tx, bucket)
            return
        with self._repository.transaction() as tx:
            _refuse_while_blocked(tx, bucket)
            # Count first: the row written locks out other processes until this is decided.
            tx.limits.count_call(bucket, tx.limits.now(), limit.slot_seconds)
            if tx.limits.calls_within(bucket, limit.window, limit.slot_seconds) > self._most(bucket, limit):
                raise StrikeUnavailable(
                    f"the budget of calls to Strike is used up for now ({bucket})",
                    retry_after_seconds=limit.slot_seconds,
                )

    def _most(self, bucket: Bucket, limit: Limit) -> int:
        return int(limit.calls * (self._share if bucket is Bucket.OTHER else DEFAULT_SHARE))

    def block(self, bucket: Bucket, retry_after_seconds: int | None) -> None:
        """Store a 429 for every process."""
        seconds = retry_after_seconds if retry_after_seconds is not None else BLOCK_WITHOUT_WORD_SECONDS.get(bucket, 60)
        with self._repository.transaction() as tx:
            tx.limits.block(bucket, tx.limits.now() + min(timedelta(seconds=seconds), LONGEST_BLOCK))
        log.warning("strike rate limit bucket=%s wait_seconds=%d", bucket, seconds)


def _refuse_while_blocked(tx: Transaction, bucket: Bucket) -> None:
    left = tx.limits.blocked_for(bucket)
    if left > timedelta():
        wait = math.ceil(left.total_seconds())
        raise StrikeUnavailable("Strike asked to wait", status=429, retry_after_seconds=wait)
