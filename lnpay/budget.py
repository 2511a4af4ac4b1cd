"""The calls that Strike lets us make, counted together by every process that shares the database.

Past 1,000 "other" calls in ten minutes Strike refuses everything for an hour; so we stop before. Creating invoices and
quotes is never slowed down by us: there Strike's own 429 is honoured, by everyone, until it ends.
"""

from __future__ import annotations

import logging
import math
from datetime import timedelta

from lnpay.errors import StrikeUnavailable
from lnpay.model import Clock
from lnpay.repository import Repository
from lnpay.strike import Bucket

log = logging.getLogger(__name__)

WINDOW = timedelta(minutes=10)
CALLS_PER_WINDOW = 1_000
"""Strike's limit on "all others" in production. Source: Strike, "Rate limits"."""

BLOCK_WITHOUT_WORD_SECONDS = {Bucket.OTHER: 3_600}
"""How long Strike locks when a 429 does not say so: an hour for the others, a minute for the rest."""


class Budget:
    """Counts calls and keeps blocks in the database.

    share: the part of the window's calls that this process may use up. Sweeps leave the rest to webhooks and refunds.
    """

    def __init__(self, repository: Repository, clock: Clock, *, share: float = 0.95) -> None:
        self._repository = repository
        self._clock = clock
        self._limit = int(CALLS_PER_WINDOW * share)

    def with_share(self, share: float) -> Budget:
        """The same count, for somebody who may use less (or more) of it."""
        return Budget(self._repository, self._clock, share=share)

    def remaining(self) -> int:
        """How many of the "other" calls may still be made in this window."""
        with self._repository.reading() as tx:
            used = tx.limits.calls_since(Bucket.OTHER, self._clock() - WINDOW)
        return max(0, self._limit - used)

    def take(self, bucket: Bucket) -> None:
        """Count one call before it is made. Raises StrikeUnavailable when Strike would refuse it, or all the next."""
        now = self._clock()
        if bucket is not Bucket.OTHER:
            with self._repository.reading() as tx:
                blocked_until = tx.limits.blocked_until(bucket)
        else:
            with self._repository.transaction() as tx:
                blocked_until = tx.limits.blocked_until(bucket)
                if blocked_until is None or blocked_until <= now:
                    if tx.limits.calls_since(bucket, now - WINDOW) >= self._limit:
                        raise StrikeUnavailable("the calls of these ten minutes are used up", retry_after_seconds=60)
                    tx.limits.count_call(bucket, now)
        if blocked_until is not None and blocked_until > now:
            wait = math.ceil((blocked_until - now).total_seconds())
            raise StrikeUnavailable("Strike asked to wait", status=429, retry_after_seconds=wait)

    def block(self, bucket: Bucket, retry_after_seconds: int | None) -> None:
        """Remember a 429, for every process."""
        seconds = retry_after_seconds if retry_after_seconds is not None else BLOCK_WITHOUT_WORD_SECONDS.get(bucket, 60)
        with self._repository.transaction() as tx:
            tx.limits.block(bucket, self._clock() + timedelta(seconds=seconds))
        log.warning("strike asks to wait bucket=%s seconds=%d", bucket, seconds)
