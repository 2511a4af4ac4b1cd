"""What every process must know about the provider's limits, and when something rare was last done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, select

from lnpay.repository.rows import upsert
from lnpay.repository.tables import milestones, provider_blocks, provider_calls

COPIED = "copied"
"""The milestone that a backup carries: when it was taken. The database it was taken of goes on without it."""

RESTORED = "restored"
"""The milestone that says since when such a copy is the database."""


class Limits:
    """Queries about call budgets inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def blocked_until(self, bucket: str) -> datetime | None:
        """Until when the provider refuses calls of this bucket, as far as it has told us."""
        statement = select(provider_blocks.c.blocked_until).where(provider_blocks.c.bucket == bucket)
        return self._connection.execute(statement).scalar()

    def block(self, bucket: str, until: datetime) -> None:
        """Remember that the provider refuses calls of this bucket until `until`; never shortens a block."""
        is_longer = provider_blocks.c.blocked_until < until
        change = {"blocked_until": until}
        statement = upsert(self._connection, provider_blocks, {"bucket": bucket}, change, change, where=is_longer)
        self._connection.execute(statement)

    def count_call(self, bucket: str, at: datetime, slot_seconds: int) -> None:
        """Count one call in the slot of `at`. A new slot lets those be forgotten that no window reaches any more."""
        key = {"bucket": bucket, "slot_at": _slot(at, slot_seconds)}
        change = {"calls": provider_calls.c.calls + 1}
        statement = upsert(self._connection, provider_calls, key, {"calls": 1}, change).returning(
            provider_calls.c.calls
        )
        if self._connection.execute(statement).scalar_one() == 1:
            too_old = at - timedelta(hours=1)
            self._connection.execute(delete(provider_calls).where(provider_calls.c.slot_at < too_old))

    def calls_since(self, bucket: str, since: datetime, slot_seconds: int) -> int:
        """Calls counted from the slot of `since` on: never fewer than were made after `since`."""
        statement = select(func.coalesce(func.sum(provider_calls.c.calls), 0)).where(
            provider_calls.c.bucket == bucket, provider_calls.c.slot_at >= _slot(since, slot_seconds)
        )
        return int(self._connection.execute(statement).scalar_one())

    def milestone(self, name: str) -> datetime | None:
        """When `name` was last done."""
        return self._connection.execute(select(milestones.c.reached_at).where(milestones.c.name == name)).scalar()

    def is_new_copy(self) -> bool:
        """Whether this is a backup that nobody has taken over as the database yet."""
        copied_at, restored_at = self.milestone(COPIED), self.milestone(RESTORED)
        return copied_at is not None and (restored_at is None or restored_at < copied_at)

    def reach_milestone(self, name: str, at: datetime) -> None:
        """Remember that `name` was done at `at`."""
        change = {"reached_at": at}
        self._connection.execute(upsert(self._connection, milestones, {"name": name}, change, change))


def _slot(at: datetime, seconds: int) -> datetime:
    """The beginning of the slot that `at` falls into."""
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)
