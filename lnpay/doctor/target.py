"""The installation under examination: its settings, and read-only access to its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lnpay.domain.errors import StorageUnavailable
from lnpay.domain.model import Clock
from lnpay.domain.settings import Settings
from lnpay.domain.strike_time import injected_seconds
from lnpay.http.outgoing import Timeout, pooled_session
from lnpay.rates.sources import RateSource
from lnpay.repository import Repository, Transaction
from lnpay.repository.maintenance.inspect import Condition, look
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.runtime import bootstrap
from lnpay.strike.buckets import Bucket, CallBudget
from lnpay.strike.budget import Budget
from lnpay.strike.client import Strike

CHECK_TIMEOUT: Timeout = (2.0, 4.0)
"""Per call: all checks together must end within 15 seconds, even if nothing answers."""


@dataclass(frozen=True)
class Target:
    """What every check receives."""

    settings: Settings
    clock: Clock
    condition: Condition
    strike: Strike
    rate_sources: Sequence[RateSource]
    _repository: Repository

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Read rows. Raises StorageUnavailable if there is no readable database."""
        if self.condition.trouble is not None:
            raise StorageUnavailable("the database cannot be read")
        if self.condition.version is None:
            raise StorageUnavailable("the database has no tables")
        with self._repository.reading() as tx:
            yield tx

    def unreadable_rows(self) -> str | None:
        """A sentence naming the unreadable rows among those that matter most. Raises StorageUnavailable."""
        with self.reading() as tx:
            tx.read_through()
        return self._repository.unreadable.in_words()

    def calls_left(self) -> int:
        """How many calls in the bucket "other" are left in the current ten minutes. Raises StorageUnavailable."""
        with self.reading():
            return Budget(self._repository).remaining()


@contextmanager
def open_target(settings: Settings, clock: Clock) -> Iterator[Target]:
    """Inspect the database first, because it decides whether calls to Strike can be counted; then open the rest."""
    condition = look(settings.database_url)
    writable = Repository(settings.database_url, can_write=_can_count(condition), steady=injected_seconds(clock))
    read_only = Repository(settings.database_url, can_write=False, steady=injected_seconds(clock))
    try:
        with pooled_session() as session:
            budget = _OptionalBudget(Budget(writable) if _can_count(condition) else None)
            strike = Strike(
                settings.strike_api_key,
                settings.strike_api_url,
                budget,
                session=session,
                clock=clock,
                timeout=CHECK_TIMEOUT,
            )
            sources = bootstrap.rate_sources(settings, strike, session, clock)
            yield Target(settings, clock, condition, strike, sources, read_only)
    finally:
        writable.close()
        read_only.close()


def _can_count(condition: Condition) -> bool:
    """Whether a Repository may be opened for writing, which would switch an SQLite file to WAL."""
    is_ours = condition.trouble is None and condition.serves(SCHEMA_VERSION)
    return is_ours and condition.write_trouble is None and condition.journal_mode in (None, "wal")


class _OptionalBudget:
    """The shared budget, if the database can store it. If not, the doctor's dozen calls are not counted."""

    def __init__(self, budget: CallBudget | None) -> None:
        self._budget = budget

    def take(self, bucket: Bucket) -> None:
        """Count a call, if possible. Raises StrikeUnavailable if it must not be made."""
        if self._budget is not None:
            try:
                self._budget.take(bucket)
            except StorageUnavailable:
                return

    def block(self, bucket: Bucket, retry_after_seconds: int | None) -> None:
        """Record a 429, if possible."""
        if self._budget is not None:
            self._budget.block(bucket, retry_after_seconds)
