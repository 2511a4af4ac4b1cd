"""State that processes share: the provider's rate limits, and when periodic tasks last ran."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

from sqlalchemy import Connection, Executable, bindparam, delete, func, or_, select

from lnpay.domain.strike_time import steady_seconds
from lnpay.repository.sql import FirstMoment, insert_into, read_rows, sum_of, to_moment, upsert
from lnpay.repository.tables import milestones, provider_blocks, provider_calls

COPIED = "copied"
"""Milestone in a backup: when it was taken. The original database does not have it."""

RESTORED = "restored"
"""Milestone: since when such a copy is the database in use."""

BOOT = datetime.fromtimestamp(0, UTC)
"""The value of `Limits.now` on SQLite when the machine starts."""

LONGEST_BLOCK = timedelta(hours=1)
"""Strike's longest lock-out. A block that ends later was written before the machine restarted, or by a wrong clock."""

KEPT = timedelta(hours=1)
"""How long counted calls are kept: longer than any window."""


class Limits:
    """Queries about call budgets inside one transaction."""

    def __init__(self, connection: Connection, steady: Callable[[], float] | None = None) -> None:
        self._connection = connection
        self._steady = steady

    def now(self) -> datetime:
        """The time by which calls are counted, the same for every process and independent of machines' clocks.

        On PostgreSQL the server's. On SQLite, where all processes share a machine, the seconds since it has started,
        as a time after `BOOT`: nothing sets them, and they begin again at 0 when the machine restarts.
        """
        if self._steady is None and self._connection.dialect.name == "postgresql":
            at: datetime = self._connection.execute(select(func.clock_timestamp())).scalar_one()
            return at.astimezone(UTC)
        return datetime.fromtimestamp((self._steady or steady_seconds)(), UTC)

    def is_restarted_with_machine(self) -> bool:
        """Whether `now` begins again when the machine restarts."""
        return self._steady is None and self._connection.dialect.name != "postgresql"

    def blocked_for(self, bucket: str) -> timedelta:
        """How long the provider still refuses calls of this bucket, as far as is known; 0 if it does not."""
        until = self.blocked_until(bucket)
        left = timedelta() if until is None else until - self.now()
        return left if timedelta() < left <= LONGEST_BLOCK else timedelta()

    def blocked_until(self, bucket: str) -> datetime | None:
        """Until when, in the time of `now`, the provider refuses calls of this bucket, as far as is known."""
        found = read_rows(self._connection, provider_blocks, _BLOCKED_UNTIL, to_moment, {"sought": bucket})
        return next(iter(found), None)

    def block(self, bucket: str, until: datetime) -> None:
        """Record that the provider refuses calls of this bucket until `until`, in the time of `now`.

        Never shortens a block, except one that ends later than any can.
        """
        ends_at = provider_blocks.c.blocked_until
        is_longer = or_(ends_at < until, ends_at > self.now() + LONGEST_BLOCK)
        change = {"blocked_until": until}
        statement = upsert(self._connection, provider_blocks, {"bucket": bucket}, change, change, where=is_longer)
        self._connection.execute(statement)

    def count_call(self, bucket: str, at: datetime, slot_seconds: int) -> None:
        """Count one call in the slot of `at`, in the time of `now`.

        Starting a new slot deletes those older than any window. It also deletes those from before a restart of the
        machine, recognisable by times later than any since then, once they are certainly older than a window.
        """
        values = {"bucket": bucket, "slot_at": _slot(at, slot_seconds), "calls": 1}
        statement = _count_call(self._connection.dialect.name)
        if self._connection.execute(statement, values).scalar_one() == 1:
            self._connection.execute(_DELETE_BEFORE, {"before": at - KEPT})
            if at - BOOT > KEPT:
                self._connection.execute(_DELETE_AFTER, {"after": at + KEPT})

    def calls_within(self, bucket: str, window: timedelta, slot_seconds: int) -> int:
        """Calls counted in the window that ends now: never fewer than were made in it.

        In the first minutes after the machine has started, the window includes calls from before the start, whose
        times are later than now.
        """
        now = self.now()
        is_before_start_included = now - BOOT <= window + timedelta(seconds=slot_seconds)
        return self.calls_since(bucket, now - window, slot_seconds, None if is_before_start_included else now + window)

    def calls_since(self, bucket: str, since: datetime, slot_seconds: int, until: datetime | None = None) -> int:
        """Calls counted from the slot of `since` to that of `until`: never fewer than were made between them."""
        statement = _CALLS_SINCE if until is None else _CALLS_BETWEEN
        sought = {"sought": bucket, "since": _slot(since, slot_seconds), "until": until}
        return int(self._connection.execute(statement, sought).scalar_one())

    def milestone(self, name: str) -> datetime | None:
        """When `name` was last done."""
        return _REACHED_AT.find(self._connection, {"sought": name})

    def mark_copied(self, at: datetime) -> None:
        """Mark this as a backup taken at `at`.

        The mark is later than the last restore that LNPay noticed, even if a clock was wrong then or is now: otherwise
        restoring this backup would not be noticed, and its refunds would be sent again.
        """
        restored_at = self.milestone(RESTORED)
        if restored_at is not None:
            at = max(at, restored_at + timedelta(microseconds=1))
        self.reach_milestone(COPIED, at)

    def is_new_copy(self) -> bool:
        """Whether this is a backup that no process has taken over as the database yet."""
        copied_at, restored_at = self.milestone(COPIED), self.milestone(RESTORED)
        return copied_at is not None and (restored_at is None or restored_at < copied_at)

    def reach_milestone(self, name: str, at: datetime) -> None:
        """Record that `name` was done at `at`."""
        self._connection.execute(_reach(self._connection.dialect.name), {"name": name, "reached_at": at})


_REACHED_AT = FirstMoment(milestones, milestones.c.reached_at, milestones.c.name == bindparam("sought"))

_BLOCKED_UNTIL = select(provider_blocks.c.blocked_until.label("moment")).where(
    provider_blocks.c.bucket == bindparam("sought")
)

_c = provider_calls.c

_CALLS_SINCE = select(sum_of(_c.calls)).where(_c.bucket == bindparam("sought"), _c.slot_at >= bindparam("since"))

_CALLS_BETWEEN = _CALLS_SINCE.where(_c.slot_at <= bindparam("until"))

_DELETE_BEFORE = delete(provider_calls).where(_c.slot_at < bindparam("before"))

_DELETE_AFTER = delete(provider_calls).where(_c.slot_at > bindparam("after"))


@cache
def _count_call(dialect: str) -> Executable:
    """Stores the first call of a slot, or counts one more; returns the slot's calls."""
    statement = insert_into(dialect, provider_calls)
    change = {"calls": _c.calls + 1}
    return statement.on_conflict_do_update(index_elements=[_c.bucket, _c.slot_at], set_=change).returning(_c.calls)


@cache
def _reach(dialect: str) -> Executable:
    """Stores when a milestone was reached, or replaces it."""
    statement = insert_into(dialect, milestones)
    change = {"reached_at": statement.excluded.reached_at}
    return statement.on_conflict_do_update(index_elements=[milestones.c.name], set_=change)


def _slot(at: datetime, seconds: int) -> datetime:
    """The beginning of the slot that `at` falls into."""
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)
