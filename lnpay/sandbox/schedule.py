"""Scheduled actions, run in order at their times."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime


class Schedule:
    """A queue of actions by time."""

    def __init__(self) -> None:
        self._queue: list[tuple[datetime, int, Callable[[], object]]] = []
        self._count = 0

    def add(self, at: datetime, action: Callable[[], object]) -> None:
        """Run `action` once the time is `at` or later; equal moments keep the order they were added in."""
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, action))

    def next_at(self) -> datetime | None:
        """When the next action is due."""
        return self._queue[0][0] if self._queue else None

    def pop_due(self, now: datetime) -> tuple[datetime, Callable[[], object]] | None:
        """Remove and return the first due action."""
        if not self._queue or self._queue[0][0] > now:
            return None
        at, _, action = heapq.heappop(self._queue)
        return at, action
